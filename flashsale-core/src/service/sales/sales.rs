//! The sales that this process takes part in: for each lane a queue and a view.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;

use super::sale::{LaneFront, Renewed, Sale};
use super::unit_transfer::borrow_units;
use crate::{
    domain::{ActivityId, Clock},
    ledger::{Adjusted, Adjustment, Lane, Ledger, LedgerError, Terms},
    service::{Batcher, BatcherOptions, sales::kill_switch::KillSwitchFlag},
};

/// How often units are borrowed for an adjustment while buyers take them away again.
const ADJUSTMENT_BORROWINGS: usize = 5;

/// All sales of this process.
#[derive(Debug)]
pub struct Sales {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    background: Handle,
    options: BatcherOptions,
    kill_switch: Arc<KillSwitchFlag>,
    running: ArcSwap<HashMap<ActivityId, Arc<Sale>>>,
    opening: Mutex<()>,
}

impl Sales {
    /// No sales yet. Queues work on the runtime of `background`, so that a caller that goes away leaves nothing half-way.
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
            running: ArcSwap::default(),
            opening: Mutex::new(()),
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

    /// The runtime for work that has to be finished.
    pub fn background(&self) -> &Handle {
        &self.background
    }

    /// Takes part in every activity that is open in the ledger.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn resume(&self) -> Result<(), LedgerError> {
        for activity in self.ledger.activities().await? {
            if let Some(terms) = self.ledger.terms(activity).await? {
                self.add(&terms);
            }
        }
        self.renew_all().await;
        Ok(())
    }

    /// Opens an activity in the ledger, and takes part in it.
    ///
    /// # Errors
    /// Those of [`Ledger::open`].
    pub async fn open(&self, terms: Arc<Terms>) -> Result<(), LedgerError> {
        self.ledger.open(Arc::clone(&terms)).await?;
        self.add(&terms);
        self.renew_all().await;
        Ok(())
    }

    /// The sale of an activity.
    pub fn sale(&self, activity: ActivityId) -> Option<Arc<Sale>> {
        self.running.load().get(&activity).cloned()
    }

    /// All sales.
    pub fn all(&self) -> Vec<Arc<Sale>> {
        self.running.load().values().cloned().collect()
    }

    /// Reads the view of a lane again.
    ///
    /// # Errors
    /// Those of [`Ledger::view`]; the view stays as it is, and is dropped when it is too old.
    pub async fn renew(&self, front: &LaneFront) -> Result<(), LedgerError> {
        let _one_at_a_time = front.renewing.lock().await;
        front.batcher.recent().turn();
        // The age of a view counts from before it was read.
        let at = self.clock.now();
        let view = self.ledger.view(front.lane).await?;
        front.view.store(Some(Arc::new(Renewed { view, at })));
        front.batcher.recent().forget();
        Ok(())
    }

    /// Adjusts the units of an offer. Units that are to be taken away are first borrowed from the other lanes; what
    /// `Insufficient` names is the sum over all lanes.
    ///
    /// # Errors
    /// Those of [`Ledger::adjust`]; repeat it with the same id.
    pub async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
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

    /// Stops all sales of this process at once, or lets them go on: while they are stopped, requests are answered `Paused`
    /// unless their key has made an order before. A batch that the ledger has in hand is still decided.
    ///
    /// `version` is that of the decision; one that is older than what was noted before changes nothing.
    pub fn note_kill_switch(&self, version: u64, on: bool) {
        self.kill_switch.note(version, on);
    }

    /// Whether all sales of this process are stopped.
    pub fn is_stopped(&self) -> bool {
        self.kill_switch.is_on()
    }

    /// Reads the views of an activity again, so that what was changed shows at once.
    pub(in crate::service) async fn renew_sale(&self, activity: ActivityId) {
        if let Some(sale) = self.sale(activity) {
            self.renew_fronts(&sale).await;
        }
    }

    /// Takes no new work, and finishes what waits in the queues.
    pub async fn drain(&self) {
        for front in self.all().iter().flat_map(|sale| &sale.fronts) {
            front.batcher.drain().await;
        }
    }

    fn add(&self, terms: &Arc<Terms>) {
        let _one_at_a_time = self.opening.lock();
        let mut running = HashMap::clone(&self.running.load());
        let buckets = terms.buckets().get();
        running.entry(terms.activity()).or_insert_with(|| {
            let front = |bucket| {
                let lane = Lane { activity: terms.activity(), bucket };
                Arc::new(LaneFront {
                    lane,
                    batcher: Batcher::with_kill_switch(
                        Arc::clone(&self.kill_switch),
                        Arc::clone(&self.ledger),
                        lane,
                        self.options.clone(),
                        &self.background,
                    ),
                    borrowing: tokio::sync::Mutex::new(()),
                    renewing: tokio::sync::Mutex::new(()),
                    borrowings: AtomicU64::new(0),
                    view: ArcSwapOption::empty(),
                })
            };
            Arc::new(Sale {
                terms: Arc::clone(terms),
                fronts: (0..buckets).map(front).collect(),
                kill_switch: Arc::clone(&self.kill_switch),
            })
        });
        self.running.store(Arc::new(running));
    }

    async fn renew_all(&self) {
        for sale in self.all() {
            self.renew_fronts(&sale).await;
        }
    }

    async fn renew_fronts(&self, sale: &Sale) {
        for front in &sale.fronts {
            if let Err(error) = self.renew(front).await {
                tracing::warn!(lane = ?front.lane, %error, "no view of a lane; its requests go to the ledger");
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
            Idempotency, ManualClock, Money, OfferTerms, Quantity, SkuId, Strategy, Subjects, Timestamp,
            UserId, Window,
        },
        embedded::EmbeddedLedger,
        ledger::{Advance, LedgerRole, Outcome, Reserve, ReserveMode, Timing},
    };

    #[tokio::test]
    async fn a_winner_is_not_declined_by_a_view_of_before() {
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
        // A request that had passed the shortcut before gets the unit that is given back.
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
}
