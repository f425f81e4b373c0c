//! All activities that this process sells.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;

use super::sale::{LaneFront, Renewed, Sale};
use super::unit_transfer::borrow_units;
use crate::{
    domain::{ActivityId, Clock, Order, OrderKey},
    ledger::{Adjusted, Adjustment, Lane, Ledger, LedgerCalls, LedgerError, PaymentRef, Terms},
    service::{
        Batcher, BatcherMetrics, BatcherOptions, ChangedLanes,
        sales::{kill_switch::KillSwitchFlag, lane_changes::LaneChanges},
    },
};

/// How often an adjustment borrows units again after buyers took the borrowed ones.
const ADJUSTMENT_BORROWINGS: usize = 5;

/// The activities that this process sells.
#[derive(Debug)]
pub struct Sales {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    background: Handle,
    options: BatcherOptions,
    kill_switch: Arc<KillSwitchFlag>,
    changes: Arc<LaneChanges>,
    running: ArcSwap<HashMap<ActivityId, Arc<Sale>>>,
    opening: Mutex<()>,
    /// What the batchers of activities that were left have done.
    left: BatcherMetrics,
}

impl Sales {
    /// Starts without activities. Batchers run on `background`, so a request that entered a batch
    /// is decided even if its caller leaves.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        background: Handle,
        options: BatcherOptions,
    ) -> Self {
        Self {
            ledger,
            clock,
            background,
            options,
            kill_switch: Arc::default(),
            changes: Arc::default(),
            running: ArcSwap::default(),
            opening: Mutex::new(()),
            left: BatcherMetrics::default(),
        }
    }

    /// The ledger underneath.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// The clock of this process.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The runtime for work that must finish even if its caller leaves.
    pub fn background(&self) -> &Handle {
        &self.background
    }

    /// Joins every activity that is open in the ledger.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn resume(&self) -> Result<(), LedgerError> {
        let mut found = Vec::new();
        for activity in self.ledger.activities().await? {
            found.extend(self.ledger.terms(activity).await?);
        }
        self.add(&found);
        for sale in self.all() {
            self.renew_fronts(&sale).await;
        }
        Ok(())
    }

    /// Opens an activity in the ledger and joins it.
    ///
    /// # Errors
    /// Those of [`open`](LedgerCalls::open).
    pub async fn open(&self, terms: Arc<Terms>) -> Result<(), LedgerError> {
        self.ledger.open(Arc::clone(&terms)).await?;
        self.add(&[Arc::clone(&terms)]);
        self.renew_sale(terms.activity()).await;
        Ok(())
    }

    /// The sale of an activity, if this process has joined it.
    pub fn sale(&self, activity: ActivityId) -> Option<Arc<Sale>> {
        self.running.load().get(&activity).cloned()
    }

    /// The sale of an activity. Joins one that only the ledger knows: it is archived, and somebody asks
    /// about it again.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn find(&self, activity: ActivityId) -> Result<Option<Arc<Sale>>, LedgerError> {
        if let Some(sale) = self.sale(activity) {
            return Ok(Some(sale));
        }
        self.add(self.ledger.terms(activity).await?.as_slice());
        Ok(self.sale(activity))
    }

    /// Returns the lane of an order, which references of its payments name. Joins no activity.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`] for an unknown activity; those of the ledger.
    pub async fn lane_of(&self, order: OrderKey) -> Result<Lane, LedgerError> {
        let buckets = match self.sale(order.activity) {
            Some(sale) => sale.terms().buckets(),
            None => self.ledger.terms(order.activity).await?.ok_or(LedgerError::NotOpen)?.buckets(),
        };
        Ok(Lane::of(order.activity, order.user, buckets))
    }

    /// Returns the reference of an order's payment; `None` if it has none. Joins no activity.
    ///
    /// # Errors
    /// As [`Sales::lane_of`].
    pub async fn payment_of(&self, order: &Order) -> Result<Option<PaymentRef>, LedgerError> {
        Ok(match order.payment() {
            Some(payment) => Some(PaymentRef { lane: self.lane_of(order.key).await?, payment: payment.id }),
            None => None,
        })
    }

    /// Leaves an activity, if the ledger can move it out of memory; see [`archive`](LedgerCalls::archive). Returns
    /// whether it was left. [`Sales::find`] joins it again.
    ///
    /// # Errors
    /// Those of [`archive`](LedgerCalls::archive).
    pub async fn archive(&self, activity: ActivityId) -> Result<bool, LedgerError> {
        let Some(sale) = self.sale(activity) else { return Ok(true) };
        // First, so that no job reads the activity any more, which would bring it back.
        self.leave(activity);
        let archived = self.ledger.archive(activity).await;
        if !matches!(archived, Ok(true)) {
            self.add(&[Arc::clone(sale.terms())]);
        }
        archived
    }

    /// Joins the activities that are in the ledger's memory and not sold by this process: somebody may
    /// have changed one just when it was left.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(in crate::service) async fn find_left(&self) -> Result<(), LedgerError> {
        for activity in self.ledger.activities().await? {
            self.find(activity).await?;
        }
        Ok(())
    }

    /// What the batchers of all activities have done since the start of the process, including those
    /// of activities that were left.
    pub fn batcher_metrics(&self) -> BatcherMetrics {
        let all = BatcherMetrics::default();
        all.add(&self.left);
        for front in self.all().iter().flat_map(|sale| sale.fronts()) {
            all.add(front.batcher.metrics());
        }
        all
    }

    /// All sales, in no particular order.
    pub fn all(&self) -> Vec<Arc<Sale>> {
        self.running.load().values().cloned().collect()
    }

    /// Reads a fresh view of a lane.
    ///
    /// # Errors
    /// Those of [`view`](LedgerCalls::view). The old view then stays in use until its lifetime is over.
    pub async fn renew(&self, front: &LaneFront) -> Result<(), LedgerError> {
        let _one_at_a_time = front.renewing.lock().await;
        front.batcher.recent().turn();
        // The age of a view counts from before it was read.
        let at = self.clock.now();
        let view = self.ledger.view(front.lane).await?;
        front.view.store(Some(Arc::new(Renewed::new(view, at))));
        front.batcher.recent().forget();
        Ok(())
    }

    /// Adjusts the units of an offer. The first lane decides; to remove units, it first borrows
    /// them from the others. [`Adjusted::Insufficient`] gives the sum over all lanes.
    ///
    /// # Errors
    /// Those of [`adjust`](LedgerCalls::adjust); repeat it with the same id.
    pub async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        let activity = adjustment.activity;
        let outcome = self.adjust_units(adjustment).await;
        // Also after an error: the step may have been taken.
        self.note_changes(activity);
        outcome
    }

    async fn adjust_units(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        let (activity, sku) = (adjustment.activity, adjustment.sku);
        let mut outcome = self.ledger.adjust(adjustment.clone()).await?;
        for _ in 0..ADJUSTMENT_BORROWINGS {
            let (Adjusted::Insufficient { available }, Some(sale)) = (outcome, self.sale(activity)) else {
                return Ok(outcome);
            };
            let total = self.ledger.stock(activity, sku).await?.map_or(0, |stock| stock.available);
            let asked = adjustment.delta.unsigned_abs();
            if u64::try_from(total).unwrap_or(0) < asked {
                return Ok(Adjusted::Insufficient {
                    available: u32::try_from(total.max(0)).unwrap_or(u32::MAX),
                });
            }
            let wanted = u32::try_from(asked.saturating_sub(available.into())).unwrap_or(u32::MAX);
            let front = &sale.fronts[0];
            borrow_units(&self.ledger, &sale, front, front.borrowings(), sku, wanted).await?;
            outcome = self.ledger.adjust(adjustment.clone()).await?;
        }
        Ok(outcome)
    }

    /// Turns the kill switch of this process on or off. While it is on, a request is answered
    /// `Paused`, unless its key has already made an order. A batch in flight is still decided.
    ///
    /// `version` is the version of the operator's decision. Stale versions are ignored.
    pub fn note_kill_switch(&self, version: u64, on: bool) {
        self.kill_switch.note(version, on);
    }

    /// Whether the kill switch is on.
    pub fn is_stopped(&self) -> bool {
        self.kill_switch.is_on()
    }

    /// Reads fresh views of an activity, so that a change shows at once.
    pub(in crate::service) async fn renew_sale(&self, activity: ActivityId) {
        if let Some(sale) = self.sale(activity) {
            self.renew_fronts(&sale).await;
        }
    }

    /// Stops taking requests, and returns when every queued one is answered.
    pub async fn drain(&self) {
        for front in self.all().iter().flat_map(|sale| &sale.fronts) {
            front.batcher.drain().await;
        }
    }

    /// Follows the changes of all lanes, for jobs that act on them. Lanes that open later count as
    /// changed; begin with those of [`Sales::all`].
    pub fn follow_changes(&self) -> Arc<ChangedLanes> {
        self.changes.follow()
    }

    /// Reads fresh views of all lanes, and notes that all changed.
    pub(in crate::service) async fn renew_all(&self) {
        for sale in self.all() {
            self.renew_fronts(&sale).await;
            self.note_changes(sale.terms.activity());
        }
    }

    /// Notes that a lane changed, or may have.
    pub(in crate::service) fn note_change(&self, lane: Lane) {
        self.changes.note(lane);
    }

    /// Notes that every lane of an activity changed, or may have.
    pub(in crate::service) fn note_changes(&self, activity: ActivityId) {
        for front in self.sale(activity).iter().flat_map(|sale| sale.fronts()) {
            self.note_change(front.lane);
        }
    }

    /// Joins activities that this process does not sell yet.
    fn add(&self, opened: &[Arc<Terms>]) {
        let _one_at_a_time = self.opening.lock();
        let mut running = HashMap::clone(&self.running.load());
        let new: Vec<_> = opened.iter().filter(|terms| !running.contains_key(&terms.activity())).collect();
        running.extend(new.iter().map(|terms| (terms.activity(), Arc::new(self.join(terms)))));
        self.running.store(Arc::new(running));
        new.iter().for_each(|terms| self.note_changes(terms.activity()));
    }

    fn leave(&self, activity: ActivityId) {
        let _one_at_a_time = self.opening.lock();
        let mut running = HashMap::clone(&self.running.load());
        let Some(sale) = running.remove(&activity) else { return };
        self.running.store(Arc::new(running));
        for front in sale.fronts() {
            self.left.add(front.batcher.metrics());
            self.note_change(front.lane);
        }
    }

    fn join(&self, terms: &Arc<Terms>) -> Sale {
        let front = |bucket| {
            let lane = Lane { activity: terms.activity(), bucket };
            Arc::new(LaneFront {
                lane,
                batcher: Batcher::of_sale(
                    Arc::clone(&self.kill_switch),
                    Arc::clone(&self.changes),
                    Arc::clone(&self.ledger),
                    lane,
                    self.options.clone(),
                    &self.background,
                ),
                borrowing: tokio::sync::Mutex::new(()),
                renewing: tokio::sync::Mutex::new(()),
                borrowings: AtomicU64::new(0),
                arrivals: Mutex::default(),
                view: ArcSwapOption::empty(),
            })
        };
        Sale {
            terms: Arc::clone(terms),
            fronts: (0..terms.buckets().get()).map(front).collect(),
            kill_switch: Arc::clone(&self.kill_switch),
        }
    }

    async fn renew_fronts(&self, sale: &Sale) {
        for front in &sale.fronts {
            if let Err(error) = self.renew(front).await {
                tracing::warn!(lane = ?front.lane, %error, "cannot read a lane's view; its requests go to the ledger");
                // An old view that lasts could decline what the change allows.
                front.view.store(None);
                self.note_change(front.lane);
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests {
    use std::{num::NonZeroU16, time::Duration};

    use super::*;
    use crate::{
        domain::{
            Attribution, Idempotency, ManualClock, Money, OfferTerms, Quantity, SkuId, Strategy, Subjects,
            Timestamp, UserId, Window,
        },
        embedded::EmbeddedLedger,
        ledger::{Advance, Change, ChangeId, LedgerRole, Outcome, Reserve, ReserveMode, Timing},
    };

    #[tokio::test]
    async fn an_older_view_does_not_decline_a_winner() {
        let now = Timestamp::from_millis(10_000_000);
        let clock = Arc::new(ManualClock::new(now));
        let ledger: Arc<dyn Ledger> =
            Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let sales = Sales::new(ledger, clock, Handle::current(), BatcherOptions::default());
        let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap());
        let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
        let offer = OfferTerms::new(sku, price, 1, Strategy::OrderTime, None).unwrap();
        let hour = Duration::from_secs(3_600);
        let window = Window::new(now.before(hour), now.after(hour)).unwrap();
        let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap();
        sales.open(Arc::new(terms)).await.unwrap();
        let sale = sales.sale(activity).unwrap();
        let front = &sale.fronts()[0];
        let user = |number| UserId::new(number).unwrap();
        let take = async |number: u64| {
            let reserve = Reserve {
                order: number.try_into().unwrap(),
                user: user(number),
                sku,
                quantity: Quantity::ONE,
                idempotency: Idempotency {
                    key: crate::domain::Key(number.into()),
                    nonce: crate::domain::Nonce(number),
                },
                subjects: Subjects::default(),
                mode: ReserveMode::NewOrder,
            };
            front.batcher.reserve(reserve).await.unwrap().1
        };
        let Outcome::Reserved { order, .. } = take(1).await else { panic!("there is a unit") };
        sales.renew(front).await.unwrap();
        let sold_out = Some(Outcome::SoldOut { available: 0 });
        assert_eq!(sale.shortcut(now, user(2), sku), sold_out);
        assert_eq!(sale.shortcut(now, user(1), sku), None, "the view knows the buyer");
        // A request that passed the shortcut earlier gets the cancelled unit.
        front.batcher.advance(Advance::Cancel { order: order.key, by: None }).await.unwrap();
        assert!(matches!(take(2).await, Outcome::Reserved { .. }));
        assert_eq!(sale.shortcut(now, user(2), sku), None, "its retry has to find the order");
        assert_eq!(sale.shortcut(now, user(3), sku), sold_out);
        for _ in 0..2 {
            sales.renew(front).await.unwrap();
            assert_eq!(sale.shortcut(now, user(2), sku), None);
            assert_eq!(sale.shortcut(now, user(3), sku), sold_out);
        }
    }

    #[tokio::test]
    async fn the_view_of_a_lane_that_is_over_does_not_age_until_the_activity_changes() {
        let (hour, second) = (Duration::from_secs(3_600), Duration::from_secs(1));
        let start = Timestamp::from_millis(10_000_000);
        let clock = Arc::new(ManualClock::new(start));
        let ledger: Arc<dyn Ledger> =
            Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let sales = Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), BatcherOptions::default());
        let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap());
        let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
        let offer = OfferTerms::new(sku, price, 1, Strategy::OrderTime, None).unwrap();
        let window = Window::new(start.after(hour), start.after(hour * 2)).unwrap();
        let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap();
        sales.open(Arc::new(terms)).await.unwrap();
        let sale = sales.sale(activity).unwrap();
        let is_fresh = |now| sale.common_view(now).is_some();
        assert!(sale.rests(start) && is_fresh(start.after(hour / 2)), "it is before its window");
        assert!(!sale.rests(window.starts_at().before(second)) && !is_fresh(window.starts_at()));

        clock.set(window.starts_at().after(second));
        sales.renew_sale(activity).await;
        assert!(is_fresh(clock.now().after(second)) && !is_fresh(clock.now().after(second * 2)));

        clock.set(window.ends_at().after(second));
        sales.renew_sale(activity).await;
        let later = clock.now().after(hour * 1_000);
        assert!(sale.rests(later));
        assert_eq!(sale.shortcut(later, UserId::new(1).unwrap(), sku), Some(Outcome::Ended));

        let longer = Window::new(window.starts_at(), later.after(hour)).unwrap();
        let by = Attribution { actor: "chen".parse().unwrap(), reason: "a test".parse().unwrap() };
        sales.ledger().amend(activity, ChangeId(1), Change::Window(longer), by).await.unwrap();
        clock.set(later);
        sales.renew_sale(activity).await;
        assert!(!sale.rests(later) && is_fresh(later));
        assert_eq!(sale.shortcut(later, UserId::new(1).unwrap(), sku), None);
    }
}
