//! Activities: announced sale events.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{ActivityId, Invalid, Name, OfferTerms, SkuId, Subject, Text, Timestamp};

/// The half-open period `[starts_at, ends_at)` in which an activity sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(Timestamp, Timestamp)", into = "(Timestamp, Timestamp)")]
pub struct Window {
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Window {
    /// Creates the window `[starts_at, ends_at)`.
    ///
    /// # Errors
    /// If `starts_at` is not before `ends_at`.
    pub fn new(starts_at: Timestamp, ends_at: Timestamp) -> Result<Self, Invalid> {
        if starts_at < ends_at {
            Ok(Self { starts_at, ends_at })
        } else {
            Err(Invalid::new("ends_at", "must be later than starts_at"))
        }
    }

    /// Returns the first moment at which orders are accepted.
    pub fn starts_at(&self) -> Timestamp {
        self.starts_at
    }

    /// Returns the first moment at which orders are no longer accepted.
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

/// The status of an activity in its preparation.
///
/// ```text
/// Draft ──submit──▶ Submitted ──approve──▶ Approved ──publish──▶ Published ──archive──▶ Archived
///   ▲                   │                      │
///   └──────reject───────┴────────reject────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityStatus {
    /// A draft; everything may change.
    Draft,
    /// Waiting for a reviewer.
    Submitted,
    /// Approved by a reviewer.
    Approved,
    /// Visible to buyers: upcoming, live or ended, depending on the time.
    Published,
    /// Over, and its orders may be deleted.
    Archived,
}

impl ActivityStatus {
    /// Returns whether an activity may move from this status to `next`.
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

/// The phase of a published activity, as buyers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the window.
    Upcoming,
    /// Inside the window.
    Live,
    /// Paused by an operator.
    Paused,
    /// After the window, or ended by an operator.
    Ended,
}

/// Whether operators let an activity take orders. Independent of its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selling {
    /// Orders are taken.
    #[default]
    On,
    /// No orders for now.
    Paused,
    /// No orders, for good.
    Ended,
}

impl Selling {
    /// Returns whether an operator may change this to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use Selling::{Ended, On, Paused};
        matches!((self, next), (On, Paused | Ended) | (Paused, On | Ended))
    }
}

/// The number of buckets that share an activity's stock and buyers: 1 to [`Buckets::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Buckets(NonZeroU16);

impl Buckets {
    /// One bucket: a single lane decides for the whole activity.
    pub const ONE: Self = Self(NonZeroU16::MIN);
    /// The maximum number of buckets per activity: 64.
    pub const MAX: u16 = 64;

    /// Returns the number of buckets.
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
            _ => Err(Invalid::new("buckets", format!("{value} is not between 1 and {}", Self::MAX))),
        }
    }
}

impl From<Buckets> for u16 {
    fn from(buckets: Buckets) -> Self {
        buckets.0.get()
    }
}

/// A sale event with its offers, as operators define it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its id.
    pub id: ActivityId,
    /// The name shown on the home page.
    pub name: Name,
    /// The text on its page.
    pub description: Option<Text>,
    /// When it sells.
    pub window: Window,
    /// The operator who created it.
    pub creator: Name,
    /// The operator who approved it; never the creator.
    pub reviewer: Option<Name>,
    /// Its status.
    pub status: ActivityStatus,
    /// The number of lanes that its ledger uses.
    #[serde(default)]
    pub buckets: Buckets,
    /// Whether it takes orders once published; [`Selling::On`] until then.
    #[serde(default)]
    pub selling: Selling,
    /// Its offers, at most one per SKU.
    pub offers: Vec<OfferTerms>,
}

impl Activity {
    /// The maximum number of offers per activity: 1,000.
    pub const MAX_OFFERS: usize = 1_000;

    /// Returns the offer of an SKU.
    pub fn offer(&self, sku: SkuId) -> Option<&OfferTerms> {
        self.offers.iter().find(|offer| offer.sku() == sku)
    }

    /// Checks the rules that span fields or offers.
    ///
    /// # Errors
    /// If an SKU has two offers, there are more than [`Activity::MAX_OFFERS`], the creator is the
    /// reviewer, an approved or published activity lacks a reviewer or offers, or several buckets
    /// cannot enforce a limit.
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
                return Err(Invalid::new("reviewer", "an approved or published activity needs a reviewer"));
            }
            if self.offers.is_empty() {
                return Err(Invalid::new("offers", "an approved or published activity needs an offer"));
            }
        }
        if self.buckets > Buckets::ONE {
            // A user maps to one bucket; a device or an address does not.
            let rules =
                self.offers.iter().flat_map(|offer| offer.limits().iter().map(move |rule| (offer, rule)));
            for (offer, rule) in rules {
                if rule.subject != Subject::User {
                    let reason = format!(
                        "the offer of SKU {} has a limit per device or address, which {} buckets cannot enforce exactly",
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
