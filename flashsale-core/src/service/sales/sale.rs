//! One activity that this process sells: its lanes, each with a queue and a view.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::{batcher::Batcher, kill_switch::KillSwitchFlag};
use crate::{
    domain::{Selling, SkuId, Timestamp, UserId},
    ledger::{BuyerFilter, Lane, Outcome, Terms, View},
};

/// For how long a view may be used after it was read: 1 s. A node that cannot renew it asks the ledger instead.
const VIEW_LIFETIME: Duration = Duration::from_secs(1);
/// How far the clocks of nodes and ledger may be apart: near the edges of the window the ledger is asked.
const CLOCK_ERROR: Duration = Duration::from_millis(250);

/// One activity.
#[derive(Debug)]
pub struct Sale {
    pub(super) terms: Arc<Terms>,
    pub(super) fronts: Vec<Arc<LaneFront>>,
    pub(super) kill_switch: Arc<KillSwitchFlag>,
}

/// What stands in front of one lane.
#[derive(Debug)]
pub struct LaneFront {
    /// The lane.
    pub lane: Lane,
    /// Its queue.
    pub batcher: Batcher,
    pub(super) borrowing: tokio::sync::Mutex<()>,
    pub(super) renewing: tokio::sync::Mutex<()>,
    /// How many borrowings for this lane have ended.
    pub(super) borrowings: AtomicU64,
    pub(super) view: ArcSwapOption<Renewed>,
}

#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) view: View,
    pub(super) at: Timestamp,
}

impl Sale {
    /// The terms with which this process joined the sale. Window and limits may have changed since: see the views.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// The fronts of all lanes.
    pub fn fronts(&self) -> &[Arc<LaneFront>] {
        &self.fronts
    }

    /// The front of a buyer's lane.
    pub fn front(&self, user: UserId) -> &Arc<LaneFront> {
        &self.fronts[usize::from(Lane::of(self.terms.activity(), user, self.terms.buckets()).bucket)]
    }

    /// What can be declined without asking the ledger: the activity is paused, clearly outside of its window, or no lane
    /// has a unit. A buyer who may have an order is never declined here, because it may be repeated.
    pub fn shortcut(&self, now: Timestamp, user: UserId, sku: SkuId) -> Option<Outcome> {
        let front = self.front(user);
        if front.batcher.recent().may_contain(user) {
            return None;
        }
        let renewed = front.view.load();
        let view = &renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view;
        if view.buyers.as_ref().is_none_or(|buyers| buyers.may_contain(user)) {
            return None;
        }
        let offer = view.offers.iter().find(|offer| offer.sku == sku)?;
        if view.selling == Selling::Paused || self.kill_switch.is_on() {
            return Some(Outcome::Paused);
        }
        let now = now.max(view.at);
        let (starts_at, ends_at) = (view.window.starts_at(), view.window.ends_at());
        if view.selling == Selling::On && now.after(CLOCK_ERROR) < starts_at {
            return Some(Outcome::NotStarted { starts_at });
        }
        if view.selling == Selling::Ended || now >= ends_at.after(CLOCK_ERROR) {
            return Some(Outcome::Ended);
        }
        let open = now >= starts_at.after(CLOCK_ERROR) && now.after(CLOCK_ERROR) < ends_at;
        let sold_out =
            open && offer.takeable == 0 && self.fronts.iter().all(|other| other.is_empty(now, sku));
        sold_out.then_some(Outcome::SoldOut { available: 0 })
    }

    /// Units that one more order could ask for, over all lanes; `None` if some lane has no fresh view.
    pub fn takeable(&self, now: Timestamp, sku: SkuId) -> Option<u64> {
        self.fronts.iter().map(|front| front.takeable(now, sku).map(u64::from)).sum()
    }

    /// Whether every lane has a fresh view.
    pub fn is_warm(&self, now: Timestamp) -> bool {
        self.fronts
            .iter()
            .all(|front| front.view.load().as_ref().is_some_and(|renewed| renewed.is_fresh(now)))
    }

    /// Grows with every change of a lane and of the kill switch; `None` if some lane has no fresh view.
    pub fn version(&self, now: Timestamp) -> Option<u64> {
        let version = |front: &Arc<LaneFront>| {
            let renewed = front.view.load();
            renewed.as_ref().filter(|renewed| renewed.is_fresh(now)).map(|renewed| renewed.view.version)
        };
        self.fronts
            .iter()
            .map(version)
            .sum::<Option<u64>>()
            .map(|version| version + self.kill_switch.version())
    }

    /// The view of the first lane, for what all lanes have in common: window and whether it sells. It is paused while all
    /// sales are stopped.
    pub fn common_view(&self, now: Timestamp) -> Option<View> {
        let renewed = self.fronts[0].view.load();
        let mut view = renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view.clone();
        if self.kill_switch.is_on() && view.selling == Selling::On {
            view.selling = Selling::Paused;
        }
        Some(view)
    }
}

impl LaneFront {
    /// How many borrowings of units for this lane have ended.
    pub(in crate::service) fn borrowings(&self) -> u64 {
        self.borrowings.load(Ordering::Acquire)
    }

    pub(in crate::service) fn count_borrowing(&self) {
        self.borrowings.fetch_add(1, Ordering::Release);
    }

    pub(in crate::service) fn takeable(&self, now: Timestamp, sku: SkuId) -> Option<u32> {
        let renewed = self.view.load();
        let view = &renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view;
        view.offers.iter().find(|offer| offer.sku == sku).map(|offer| offer.takeable)
    }

    /// Whether the lane certainly has no units of an offer, neither to take nor on their way to another lane.
    fn is_empty(&self, now: Timestamp, sku: SkuId) -> bool {
        let renewed = self.view.load();
        let Some(renewed) = renewed.as_ref().filter(|renewed| renewed.is_fresh(now)) else { return false };
        let offer = renewed.view.offers.iter().find(|offer| offer.sku == sku);
        offer.is_some_and(|offer| offer.takeable == 0 && offer.sending == 0)
    }

    /// The buyers who have orders in this lane, if its view has them and is fresh.
    pub fn buyers(&self, now: Timestamp) -> Option<BuyerFilter> {
        let renewed = self.view.load();
        renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view.buyers.clone()
    }
}

impl Renewed {
    fn is_fresh(&self, now: Timestamp) -> bool {
        // After a step back of the clock the age is not known.
        now.since(self.at) <= VIEW_LIFETIME && self.at.since(now) <= CLOCK_ERROR
    }
}
