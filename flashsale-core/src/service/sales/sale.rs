//! One activity that this process sells: its lanes, each with a batcher and a cached view.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::{batcher::Batcher, kill_switch::KillSwitchFlag};
use crate::{
    domain::{Selling, SkuId, Timestamp, UserId},
    ledger::{Bucket, BuyerFilter, Epoch, Lane, Outcome, Terms, Transfer, View},
};

/// How long a view of a lane that sells may be used: 1 s. Without a fresh view, every request goes to
/// the ledger.
const VIEW_LIFETIME: Duration = Duration::from_secs(1);
/// How long before the start of its window a lane's view is renewed regularly.
const LEAD: Duration = Duration::from_secs(5);
/// How far the clocks of this process and the ledger may differ. Closer than this to the window's
/// edges, the ledger decides.
const CLOCK_ERROR: Duration = Duration::from_millis(250);

/// One activity that this process sells.
#[derive(Debug)]
pub struct Sale {
    pub(super) terms: Arc<Terms>,
    pub(super) fronts: Vec<Arc<LaneFront>>,
    pub(super) kill_switch: Arc<KillSwitchFlag>,
}

/// One lane as this process uses it: its batcher and its view.
#[derive(Debug)]
pub struct LaneFront {
    /// The lane.
    pub lane: Lane,
    /// Sends requests to the lane.
    pub batcher: Batcher,
    pub(super) borrowing: tokio::sync::Mutex<()>,
    pub(super) renewing: tokio::sync::Mutex<()>,
    /// The number of finished borrowings for this lane.
    pub(super) borrowings: AtomicU64,
    /// The last transfer from each bucket that this process has seen arrive: epoch and number.
    pub(super) arrivals: Mutex<HashMap<Bucket, (Epoch, u64)>>,
    pub(super) view: ArcSwapOption<Renewed>,
}

#[derive(Debug)]
pub(super) struct Renewed {
    view: View,
    at: Timestamp,
    /// When the view stays in use however old it is.
    lasts: Range<Timestamp>,
}

impl Sale {
    /// The terms at the time this process joined. The window and limits may have changed since: see
    /// the views.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// All lanes, by bucket.
    pub fn fronts(&self) -> &[Arc<LaneFront>] {
        &self.fronts
    }

    /// The buyer's lane.
    pub fn front(&self, user: UserId) -> &Arc<LaneFront> {
        &self.fronts[usize::from(Lane::of(self.terms.activity(), user, self.terms.buckets()).bucket)]
    }

    /// Declines a request without asking the ledger, if the views allow it: the activity is paused,
    /// clearly outside its window, or sold out in every lane. Never declines a buyer who may have
    /// an order: this may be its retry.
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
        let window = view.terms.window();
        let (starts_at, ends_at) = (window.starts_at(), window.ends_at());
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

    /// The units that can be ordered now, over all lanes. `None` if some lane has no fresh view.
    pub fn takeable(&self, now: Timestamp, sku: SkuId) -> Option<u64> {
        self.fronts.iter().map(|front| front.takeable(now, sku).map(u64::from)).sum()
    }

    /// Whether every lane has a fresh view.
    pub fn is_warm(&self, now: Timestamp) -> bool {
        self.fronts
            .iter()
            .all(|front| front.view.load().as_ref().is_some_and(|renewed| renewed.is_fresh(now)))
    }

    /// Whether no lane can sell at `now`, unless an operator changes the activity: it is before its
    /// window, or over.
    pub fn rests(&self, now: Timestamp) -> bool {
        self.fronts.iter().all(|front| front.rests_until(now).is_some())
    }

    /// Grows with every change of a lane or the kill switch. `None` if some lane has no fresh view.
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

    /// The first lane's view, for what all lanes share: the window, and whether the activity sells.
    /// The kill switch shows as paused. `None` without a fresh view.
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
    /// Until when the lane rests at `now`, unless something changes it: before its window, and after
    /// its end ([`Timestamp::MAX`]). `None` if it may sell, or has no view yet.
    pub(in crate::service) fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        let renewed = self.view.load();
        renewed.as_ref().filter(|renewed| renewed.lasts.contains(&now)).map(|renewed| renewed.lasts.end)
    }

    /// The number of finished borrowings for this lane.
    pub(in crate::service) fn borrowings(&self) -> u64 {
        self.borrowings.load(Ordering::Acquire)
    }

    pub(in crate::service) fn count_borrowing(&self) {
        self.borrowings.fetch_add(1, Ordering::Release);
    }

    /// Whether this process has seen a transfer to this lane arrive. Transfers from one bucket arrive
    /// in the order of their numbers.
    pub(super) fn has_arrived(&self, transfer: &Transfer) -> bool {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.get(&transfer.from).is_some_and(|last| *last >= (transfer.epoch, transfer.number))
    }

    /// Notes that a transfer to this lane has arrived.
    pub(super) fn note_arrival(&self, transfer: &Transfer) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let last = arrivals.entry(transfer.from).or_default();
        *last = (*last).max((transfer.epoch, transfer.number));
    }

    pub(in crate::service) fn takeable(&self, now: Timestamp, sku: SkuId) -> Option<u32> {
        let renewed = self.view.load();
        let view = &renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view;
        view.offers.iter().find(|offer| offer.sku == sku).map(|offer| offer.takeable)
    }

    /// Whether the lane certainly has no units of an offer, neither available nor in transit to
    /// another lane.
    fn is_empty(&self, now: Timestamp, sku: SkuId) -> bool {
        let renewed = self.view.load();
        let Some(renewed) = renewed.as_ref().filter(|renewed| renewed.is_fresh(now)) else { return false };
        let offer = renewed.view.offers.iter().find(|offer| offer.sku == sku);
        offer.is_some_and(|offer| offer.takeable == 0 && offer.sending == 0)
    }

    /// The buyers with orders in this lane. `None` if the view is stale or does not list them.
    pub fn buyers(&self, now: Timestamp) -> Option<BuyerFilter> {
        let renewed = self.view.load();
        renewed.as_ref().filter(|renewed| renewed.is_fresh(now))?.view.buyers.clone()
    }
}

impl Renewed {
    /// A view that was read after the time `at`.
    pub(super) fn new(view: View, at: Timestamp) -> Self {
        let lasts = lasting(&view, at);
        Self { view, at, lasts }
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        // If the clock was set back, the view's age is unknown.
        self.lasts.contains(&now) || now.since(self.at) <= VIEW_LIFETIME && self.at.since(now) <= CLOCK_ERROR
    }
}

/// When a view stays true however old it is, because the lane takes no order: before its window and
/// after its end. Only an operator's change ends that, and renews the view. The view lists every
/// buyer who may have an order, because it was read in that time by the clock of the lane too.
fn lasting(view: &View, at: Timestamp) -> Range<Timestamp> {
    let opens = view.terms.window().starts_at().before(LEAD);
    let closed = view.terms.window().ends_at().after(CLOCK_ERROR);
    if view.selling == Selling::Ended {
        Timestamp::EPOCH..Timestamp::MAX
    } else if at >= closed && view.at >= closed {
        closed..Timestamp::MAX
    } else {
        // Empty once the window is near.
        Timestamp::EPOCH..if at.max(view.at) < opens { opens } else { Timestamp::EPOCH }
    }
}
