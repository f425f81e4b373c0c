//! Terms: what a ledger has to know of an activity.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Bucket;
use crate::domain::{
    ActivityId, Invalid, LimitRule, OfferTerms, Selling, SkuId, Subject, Window, offer::check_limits,
};

/// How long payments may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long a payment stays open. Default 15 minutes.
    pub payment_window: Duration,
    /// How far a payment may outlast the deadline of its order. Default 15 minutes.
    pub payment_cap: Duration,
    /// How long after its deadline a payment is waited for that cannot be closed at the provider. Default 5 minutes.
    pub close_grace: Duration,
    /// After what time a payment is handed out again to be closed. Default 10 s.
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

/// An activity as a ledger opens it: window, buckets, offers.
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
    /// Terms of an activity; offers are put in the order of their SKUs.
    ///
    /// # Errors
    /// No offers, two offers of one SKU, or a limit that cannot be enforced exactly: one whose subject is not the user
    /// in an activity of several buckets, since a device or an address may come with users of different buckets.
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

    /// The activity.
    pub fn activity(&self) -> ActivityId {
        self.activity
    }

    /// When it sells.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Into how many buckets its stock and buyers are divided.
    pub fn buckets(&self) -> NonZeroU16 {
        self.buckets
    }

    /// How long payments may take.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The offers, in the order of their SKUs.
    pub fn offers(&self) -> &[OfferTerms] {
        &self.offers
    }

    /// The offer of an SKU.
    pub fn offer(&self, sku: SkuId) -> Option<&OfferTerms> {
        self.index(sku).map(|index| &self.offers[index])
    }

    /// The place of an SKU among the offers.
    pub fn index(&self, sku: SkuId) -> Option<usize> {
        self.offers.binary_search_by_key(&sku, OfferTerms::sku).ok()
    }

    /// The units of an offer with which a bucket starts: equal shares, the first buckets take the remainder.
    pub fn share(&self, offer: &OfferTerms, bucket: Bucket) -> u32 {
        let buckets = u32::from(self.buckets.get());
        offer.units() / buckets + u32::from(u32::from(bucket) < offer.units() % buckets)
    }

    /// The same terms after a change of window or limits; other changes leave the terms as they are.
    ///
    /// # Errors
    /// An SKU without an offer, or limits that [`Terms::new`] would refuse.
    pub fn changed(&self, change: &Change) -> Result<Arc<Self>, Invalid> {
        self.changed_by([change])
    }

    /// The same terms after several changes, one after the other.
    ///
    /// # Errors
    /// Those of [`Terms::changed`].
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

/// A live change of an activity's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Pause, resume or end. Ended is for ever: a later change to on or paused has no effect.
    Selling(Selling),
    /// Another window.
    Window(Window),
    /// Other limits for one offer; orders that were placed before count.
    Limits {
        /// The offer.
        sku: SkuId,
        /// Its new limits, in the order in which they are checked.
        limits: Vec<LimitRule>,
    },
}
