//! The risk that a visitor is a script.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::domain::{SubjectId, Timestamp, UserId};

const DAY: Duration = Duration::from_secs(86_400);

/// The likelihood that a visitor is a script: 0 (certainly not) to 100 (certainly).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Risk(u8);

impl Risk {
    /// The highest value.
    pub const MAX: u8 = 100;

    /// Creates a risk, capped at 100.
    pub const fn new(value: u8) -> Self {
        Self(if value > Self::MAX { Self::MAX } else { value })
    }

    /// Returns the value, 0 to 100.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the identity provider says about an account; unknown facts are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The customer's level in the shop: 0 for new customers, higher for better known ones.
    pub level: Option<u8>,
}

/// The recent behaviour of a visitor in this process. Each number decays over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// The tickets and challenges requested, up to the quota.
    pub asked: u32,
    /// The quota of these requests.
    pub may_ask: u32,
    /// The failed challenges.
    pub failed: u32,
}

/// A user who requests a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The user.
    pub user: UserId,
    /// The digest of the address.
    pub address: SubjectId,
    /// The digest of the device, if the client names one; unverified.
    pub device: Option<SubjectId>,
    /// The account.
    pub account: Account,
    /// The recent behaviour of the user.
    pub behaviour: Behaviour,
}

/// Assesses visitors.
///
/// # Contract
///
/// - It is awaited before each ticket and each challenge, but never for an order. Answer within
///   milliseconds, from a [`Cache`](crate::cache::Cache) if the data is remote.
/// - It cannot fail: choose a risk if facts are missing. A failing service must not stop a sale.
/// - It has no important side effects: a client that disconnects drops the future.
#[async_trait]
pub trait RiskProfile: Send + Sync + fmt::Debug {
    /// Returns the risk of a visitor.
    async fn risk(&self, visitor: &Visitor, now: Timestamp) -> Risk;
}

/// Assesses the account's age and level and the user's recent behaviour.
///
/// | points | for |
/// |---|---|
/// | 30, 20, 10, 0 | account younger than 1, 7, 30 days, older; 15 if unknown |
/// | 15, 10, 5, 0 | level 0, 1, 2, higher; 10 if unknown |
/// | 15 each, at most 45 | failed challenges |
/// | up to 20 | requests beyond half of the user's quota |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountRisk;

impl AccountRisk {
    fn of_age(account: &Account, now: Timestamp) -> u32 {
        match account.created_at.map(|created_at| now.since(created_at)) {
            None => 15,
            Some(age) if age < DAY => 30,
            Some(age) if age < 7 * DAY => 20,
            Some(age) if age < 30 * DAY => 10,
            Some(_) => 0,
        }
    }

    fn of_level(account: &Account) -> u32 {
        match account.level {
            None => 10,
            Some(level) => 15_u32.saturating_sub(5 * u32::from(level)),
        }
    }

    fn of_behaviour(behaviour: &Behaviour) -> u32 {
        let failed = 15 * behaviour.failed.min(3);
        let half = behaviour.may_ask / 2;
        let beyond = u64::from(behaviour.asked.saturating_sub(half));
        let hurried = 20 * beyond / u64::from(behaviour.may_ask - half).max(1);
        failed + u32::try_from(hurried.min(20)).unwrap_or(20)
    }
}

#[async_trait]
impl RiskProfile for AccountRisk {
    async fn risk(&self, visitor: &Visitor, now: Timestamp) -> Risk {
        let Visitor { account, behaviour, .. } = visitor;
        let points = Self::of_age(account, now) + Self::of_level(account) + Self::of_behaviour(behaviour);
        Risk::new(u8::try_from(points).unwrap_or(Risk::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn visitor(age_days: Option<u32>, level: Option<u8>, behaviour: Behaviour) -> Visitor {
        let created_at = age_days.map(|days| NOW.before(days * DAY));
        Visitor {
            user: UserId::new(1).unwrap(),
            address: SubjectId(1),
            device: None,
            account: Account { created_at, level },
            behaviour,
        }
    }

    #[tokio::test]
    async fn each_risk_factor_has_its_points() {
        let quiet = Behaviour { asked: 1, may_ask: 30, failed: 0 };
        let table = [
            (None, None, quiet, 25),
            (Some(0), Some(0), quiet, 45),
            (Some(1), Some(1), quiet, 30),
            (Some(7), Some(2), quiet, 15),
            (Some(30), Some(3), quiet, 0),
            (Some(400), Some(200), quiet, 0),
            (Some(400), Some(9), Behaviour { failed: 1, ..quiet }, 15),
            (Some(400), Some(9), Behaviour { failed: 99, ..quiet }, 45),
            (Some(400), Some(9), Behaviour { asked: 15, ..quiet }, 0),
            (Some(400), Some(9), Behaviour { asked: 30, ..quiet }, 20),
            (Some(0), Some(0), Behaviour { asked: 30, may_ask: 30, failed: 3 }, 100),
            (Some(0), Some(0), Behaviour { asked: u32::MAX, may_ask: 0, failed: u32::MAX }, 100),
        ];
        for (age, level, behaviour, risk) in table {
            let visitor = visitor(age, level, behaviour);
            assert_eq!(AccountRisk.risk(&visitor, NOW).await.value(), risk, "{visitor:?}");
        }
    }

    #[tokio::test]
    async fn an_account_from_the_future_is_new() {
        let mut visitor = visitor(None, Some(9), Behaviour::default());
        visitor.account.created_at = Some(NOW.after(DAY));
        assert_eq!(AccountRisk.risk(&visitor, NOW).await.value(), 30);
    }
}
