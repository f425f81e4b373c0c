//! Activities: announced sale events.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{ActivityId, Invalid, Name, OfferTerms, SkuId, Subject, Text, Timestamp};

/// When an activity sells: from `starts_at` until just before `ends_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(Timestamp, Timestamp)", into = "(Timestamp, Timestamp)")]
pub struct Window {
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Window {
    /// The window `[starts_at, ends_at)`.
    ///
    /// # Errors
    /// If it is empty.
    pub fn new(starts_at: Timestamp, ends_at: Timestamp) -> Result<Self, Invalid> {
        if starts_at < ends_at {
            Ok(Self { starts_at, ends_at })
        } else {
            Err(Invalid::new("ends_at", "must be later than starts_at"))
        }
    }

    /// The first moment in which orders are taken.
    pub fn starts_at(&self) -> Timestamp {
        self.starts_at
    }

    /// The first moment in which they no longer are.
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }
}

impl TryFrom<(Timestamp, Timestamp)> for Window {
    type Error = Invalid;

    fn try_from((starts_at, ends_at): (Timestamp, Timestamp)) -> Result<Self, Invalid> {
        Self::new(starts_at, ends_at)
    }
}

impl From<Window> for (Timestamp, Timestamp) {
    fn from(window: Window) -> Self {
        (window.starts_at, window.ends_at)
    }
}

/// Where an activity stands in its preparation.
///
/// ```text
/// Draft ──submit──▶ Submitted ──approve──▶ Approved ──publish──▶ Published ──archive──▶ Archived
///   ▲                   │                      │
///   └──────reject───────┴────────reject────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityStatus {
    /// Being written; everything may change.
    Draft,
    /// Waits for a reviewer.
    Submitted,
    /// A reviewer agreed.
    Approved,
    /// Buyers see it; by time it is upcoming, live or ended.
    Published,
    /// Over, and its orders may be forgotten.
    Archived,
}

impl ActivityStatus {
    /// Whether an activity may go from this status to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use ActivityStatus::{Approved, Archived, Draft, Published, Submitted};
        matches!(
            (self, next),
            (Draft, Submitted)
                | (Submitted, Approved | Draft)
                | (Approved, Published | Draft)
                | (Published, Archived)
        )
    }
}

/// Where a published activity stands, as buyers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the window.
    Upcoming,
    /// Inside the window.
    Live,
    /// An operator stopped it for now.
    Paused,
    /// After the window, or an operator ended it.
    Ended,
}

/// Whether an activity takes orders, as far as operators decide it. The window is a matter of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selling {
    /// It does.
    #[default]
    On,
    /// Not for now.
    Paused,
    /// Never again.
    Ended,
}

impl Selling {
    /// Whether an operator may go from this to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use Selling::{Ended, On, Paused};
        matches!((self, next), (On, Paused | Ended) | (Paused, On | Ended))
    }
}

/// Over how many buckets an activity spreads its stock and its buyers: 1 to [`Buckets::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Buckets(NonZeroU16);

impl Buckets {
    /// One bucket: one lane decides about the whole activity.
    pub const ONE: Self = Self(NonZeroU16::MIN);
    /// The most buckets of one activity: 64.
    pub const MAX: u16 = 64;

    /// The number of buckets.
    pub const fn value(self) -> NonZeroU16 {
        self.0
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u16> for Buckets {
    type Error = Invalid;

    fn try_from(value: u16) -> Result<Self, Invalid> {
        match NonZeroU16::new(value) {
            Some(buckets) if value <= Self::MAX => Ok(Self(buckets)),
            _ => Err(Invalid::new("buckets", format!("{value} is not from 1 to {}", Self::MAX))),
        }
    }
}

impl From<Buckets> for u16 {
    fn from(buckets: Buckets) -> Self {
        buckets.0.get()
    }
}

/// A sale event with its offers, as operators write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its id.
    pub id: ActivityId,
    /// What buyers see on the home page.
    pub name: Name,
    /// What buyers read on its page.
    pub description: Option<Text>,
    /// When it sells.
    pub window: Window,
    /// Who wrote it.
    pub creator: Name,
    /// Who approved it; never the creator.
    pub reviewer: Option<Name>,
    /// Where it stands.
    pub status: ActivityStatus,
    /// Over how many lanes its ledger is spread.
    #[serde(default)]
    pub buckets: Buckets,
    /// Whether a published activity takes orders; the others are on.
    #[serde(default)]
    pub selling: Selling,
    /// What it sells, at most one offer for an SKU.
    pub offers: Vec<OfferTerms>,
}

impl Activity {
    /// The most offers of one activity: 1,000.
    pub const MAX_OFFERS: usize = 1_000;

    /// The offer of an SKU.
    pub fn offer(&self, sku: SkuId) -> Option<&OfferTerms> {
        self.offers.iter().find(|offer| offer.sku() == sku)
    }

    /// Checks what concerns the activity as a whole.
    ///
    /// # Errors
    /// Two offers of one SKU, more than [`Activity::MAX_OFFERS`], a reviewer who is the creator, an approved or
    /// published activity without reviewer or without offers, or a limit that several buckets cannot enforce.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.offers.len() > Self::MAX_OFFERS {
            return Err(Invalid::new("offers", format!("at most {} are allowed", Self::MAX_OFFERS)));
        }
        let mut skus: Vec<_> = self.offers.iter().map(OfferTerms::sku).collect();
        skus.sort_unstable();
        if let Some(pair) = skus.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Invalid::new("sku_id", format!("the SKU {} is offered twice", pair[0])));
        }
        if self.reviewer.as_ref() == Some(&self.creator) {
            return Err(Invalid::new("reviewer", "must not be the creator"));
        }
        if matches!(self.status, ActivityStatus::Approved | ActivityStatus::Published) {
            if self.reviewer.is_none() {
                return Err(Invalid::new(
                    "reviewer",
                    "an approved or published activity names who approved it",
                ));
            }
            if self.offers.is_empty() {
                return Err(Invalid::new(
                    "offers",
                    "an approved or published activity has at least one offer",
                ));
            }
        }
        if self.buckets > Buckets::ONE {
            // A buyer belongs to one bucket, a device or an address does not.
            let rules =
                self.offers.iter().flat_map(|offer| offer.limits().iter().map(move |rule| (offer, rule)));
            for (offer, rule) in rules {
                if rule.subject != Subject::User {
                    let reason = format!(
                        "the offer of SKU {} limits something other than users, which {} buckets cannot enforce exactly",
                        offer.sku(),
                        self.buckets.value()
                    );
                    return Err(Invalid::new("buckets", reason));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_moves_only_along_its_arrows() {
        use ActivityStatus::{Approved, Archived, Draft, Published, Submitted};
        let all = [Draft, Submitted, Approved, Published, Archived];
        let allowed = [
            (Draft, Submitted),
            (Submitted, Approved),
            (Submitted, Draft),
            (Approved, Published),
            (Approved, Draft),
            (Published, Archived),
        ];
        for from in all {
            for to in all {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn buckets_are_bounded() {
        assert_eq!(Buckets::try_from(64).unwrap().value().get(), 64);
        for bad in [0, 65] {
            assert!(Buckets::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn windows_are_not_empty() {
        let at = Timestamp::from_millis;
        assert!(Window::new(at(5), at(5)).is_err());
        assert!(Window::new(at(5), at(6)).is_ok());
    }
}
