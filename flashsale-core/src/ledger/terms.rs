//! Terms: what a ledger needs to know about an activity.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Bucket;
use crate::domain::{
    ActivityId, Invalid, LimitRule, OfferTerms, Selling, SkuId, Subject, Window, offer::check_limits,
};

/// Time limits of payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long a payment stays open. Default 15 minutes.
    pub payment_window: Duration,
    /// How far a payment's deadline may exceed its order's. Default 15 minutes.
    pub payment_cap: Duration,
    /// How long after its deadline to wait for a payment that cannot be closed. Default 5 minutes.
    pub close_grace: Duration,
    /// How long until a payment is handed out again for closing. Default 10 s.
    pub close_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            payment_window: Duration::from_secs(900),
            payment_cap: Duration::from_secs(900),
            close_grace: Duration::from_secs(300),
            close_retry: Duration::from_secs(10),
        }
    }
}

/// The terms with which a ledger opens an activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTerms", into = "RawTerms")]
pub struct Terms {
    activity: ActivityId,
    window: Window,
    buckets: NonZeroU16,
    timing: Timing,
    offers: Vec<OfferTerms>,
}

#[derive(Serialize, Deserialize)]
struct RawTerms {
    activity: ActivityId,
    window: Window,
    buckets: NonZeroU16,
    timing: Timing,
    offers: Vec<OfferTerms>,
}

impl TryFrom<RawTerms> for Terms {
    type Error = Invalid;

    fn try_from(raw: RawTerms) -> Result<Self, Invalid> {
        Self::new(raw.activity, raw.window, raw.buckets, raw.timing, raw.offers)
    }
}

impl From<Terms> for RawTerms {
    fn from(terms: Terms) -> Self {
        Self {
            activity: terms.activity,
            window: terms.window,
            buckets: terms.buckets,
            timing: terms.timing,
            offers: terms.offers,
        }
    }
}

impl Terms {
    /// Creates terms; sorts the offers by SKU.
    ///
    /// # Errors
    /// If there are no offers or over 1,000, an SKU has two, or an activity of several buckets
    /// limits devices or addresses, which cannot be counted exactly across buckets.
    pub fn new(
        activity: ActivityId,
        window: Window,
        buckets: NonZeroU16,
        timing: Timing,
        mut offers: Vec<OfferTerms>,
    ) -> Result<Self, Invalid> {
        offers.sort_by_key(OfferTerms::sku);
        if offers.is_empty() {
            return Err(Invalid::new("offers", "an activity needs at least one offer"));
        }
        if offers.len() > crate::domain::Activity::MAX_OFFERS {
            return Err(Invalid::new("offers", "an activity has at most 1000 offers"));
        }
        if let Some(pair) = offers.windows(2).find(|pair| pair[0].sku() == pair[1].sku()) {
            return Err(Invalid::new("sku_id", format!("the SKU {} is offered twice", pair[0].sku())));
        }
        let terms = Self { activity, window, buckets, timing, offers };
        for offer in &terms.offers {
            terms.check_limits(offer.limits())?;
        }
        Ok(terms)
    }

    /// Returns the activity.
    pub fn activity(&self) -> ActivityId {
        self.activity
    }

    /// Returns the window in which it sells.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Returns the number of buckets that share its stock and buyers.
    pub fn buckets(&self) -> NonZeroU16 {
        self.buckets
    }

    /// Returns the time limits of payments.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns the offers, sorted by SKU.
    pub fn offers(&self) -> &[OfferTerms] {
        &self.offers
    }

    /// Returns the offer of an SKU.
    pub fn offer(&self, sku: SkuId) -> Option<&OfferTerms> {
        self.index(sku).map(|index| &self.offers[index])
    }

    /// Returns the index of an SKU in [`offers`](Self::offers).
    pub fn index(&self, sku: SkuId) -> Option<usize> {
        self.offers.binary_search_by_key(&sku, OfferTerms::sku).ok()
    }

    /// Returns the initial units of a bucket: an equal share, with the remainder in the first ones.
    pub fn share(&self, offer: &OfferTerms, bucket: Bucket) -> u32 {
        let buckets = u32::from(self.buckets.get());
        offer.units() / buckets + u32::from(u32::from(bucket) < offer.units() % buckets)
    }

    /// Returns the terms after a change of window or limits; ignores other changes.
    ///
    /// # Errors
    /// If the SKU has no offer, or [`Terms::new`] would reject the limits.
    pub fn changed(&self, change: &Change) -> Result<Arc<Self>, Invalid> {
        self.changed_by([change])
    }

    /// Returns the terms after several changes, applied in order.
    ///
    /// # Errors
    /// See [`Terms::changed`].
    pub fn changed_by<'a>(
        &self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Arc<Self>, Invalid> {
        let mut terms = self.clone();
        for change in changes {
            match change {
                Change::Selling(_) => {}
                Change::Window(window) => terms.window = *window,
                Change::Limits { sku, limits } => {
                    terms.check_limits(limits)?;
                    let offered = || Invalid::new("sku_id", format!("{sku} is not offered"));
                    let offer = &mut terms.offers[self.index(*sku).ok_or_else(offered)?];
                    *offer = offer.clone().with_limits(limits.clone())?;
                }
            }
        }
        Ok(Arc::new(terms))
    }

    fn check_limits(&self, limits: &[LimitRule]) -> Result<(), Invalid> {
        check_limits(limits)?;
        if self.buckets.get() > 1 && limits.iter().any(|rule| rule.subject != Subject::User) {
            return Err(Invalid::new(
                "limits",
                "a limit per device or address cannot be enforced over several buckets: use one bucket, or limit users",
            ));
        }
        Ok(())
    }
}

/// A change of an activity's terms while it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Pauses, resumes or ends the sale. Ending is final: later changes have no effect.
    Selling(Selling),
    /// Replaces the window.
    Window(Window),
    /// Replaces the limits of one offer; existing orders count.
    Limits {
        /// The offer.
        sku: SkuId,
        /// The new limits, in the order in which they are checked.
        limits: Vec<LimitRule>,
    },
}
