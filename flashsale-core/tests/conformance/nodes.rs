//! Several nodes over the same two tiers: none fails or waits because of another, none asks the truth
//! more than it has to, and no buyer waits for the truth.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use flashsale_core::{
    conformance::{Faults, Faulty, Model, TestControl},
    domain::{
        ActivityId, Attribution, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, Order, Quantity,
        SkuId, Strategy, Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Epoch, Lane, LedgerCalls as _, LedgerError, LedgerRole, Outcome,
        Reserve, ReserveMode, Terms, Timing,
    },
    service::{BatcherOptions, OrderRequest, OrderService, Placement, Sales},
    snowflake::{Generator, InMemoryLease, Settings},
    tiered::{Pumped, Tiered, TieredOptions},
};
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep},
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const BUCKETS: u16 = 3;

/// Two tiers in memory, and how their calls fail.
struct Tiers {
    gate: Arc<Model>,
    truth: Arc<Model>,
    gate_faults: Arc<Faults>,
    truth_faults: Arc<Faults>,
}

impl Tiers {
    fn new(seed: u64) -> Self {
        Self {
            gate: Model::new(LedgerRole::Gate),
            truth: Model::new(LedgerRole::Truth),
            gate_faults: Faults::new(seed),
            truth_faults: Faults::new(seed + 1_000),
        }
    }

    fn node(&self) -> Arc<Tiered> {
        self.node_with(TieredOptions::default())
    }

    fn node_with(&self, options: TieredOptions) -> Arc<Tiered> {
        let gate = Faulty::new(Arc::clone(&self.gate), Arc::clone(&self.gate_faults));
        let truth = Faulty::new(Arc::clone(&self.truth), Arc::clone(&self.truth_faults));
        Arc::new(Tiered::new(gate, truth, options))
    }

    fn set_percent(&self, percent: u32) {
        self.gate_faults.set_percent(percent);
        self.truth_faults.set_percent(percent);
    }

    /// Opens the activity and sets the time of both tiers.
    async fn open(&self, node: &Tiered, units: u32) {
        for bucket in 0..BUCKETS {
            self.gate.advance_time(lane(bucket), NOW).await;
            self.truth.advance_time(lane(bucket), NOW).await;
        }
        node.open(terms(units)).await.unwrap();
    }

    async fn is_persisted(&self, order: &Order) -> bool {
        self.truth.order(order.key).await.unwrap().is_some()
    }

    async fn epoch(&self) -> Epoch {
        self.truth.epoch(activity()).await.unwrap()
    }
}

fn activity() -> ActivityId {
    ActivityId::new(7).unwrap()
}

fn sku() -> SkuId {
    SkuId::new(1).unwrap()
}

fn lane(bucket: u16) -> Lane {
    Lane { activity: activity(), bucket }
}

fn terms(units: u32) -> Arc<Terms> {
    let price = Money::new(9_900, "CNY".parse().unwrap()).unwrap();
    let hold = Some(Duration::from_secs(3_600));
    let offer = OfferTerms::new(sku(), price, units, Strategy::PreDeduct, hold).unwrap();
    let window = Window::new(Timestamp::from_millis(1), Timestamp::MAX).unwrap();
    let buckets = NonZeroU16::new(BUCKETS).unwrap();
    Arc::new(Terms::new(activity(), window, buckets, Timing::default(), vec![offer]).unwrap())
}

/// Returns the `n`-th buyer of a bucket, from 0.
fn buyer(bucket: u16, n: usize) -> UserId {
    let of_bucket = |user: &UserId| Lane::of(activity(), *user, terms(1).buckets()).bucket == bucket;
    (1..).map(|id| UserId::new(id).unwrap()).filter(of_bucket).nth(n).unwrap()
}

fn request(user: UserId) -> Reserve {
    Reserve {
        order: user.value().try_into().unwrap(),
        user,
        sku: sku(),
        quantity: Quantity::ONE,
        idempotency: Idempotency { key: Key(1), nonce: Nonce(1) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    }
}

async fn reserve(node: &Tiered, user: UserId) -> Result<Outcome, LedgerError> {
    let lane = Lane::of(activity(), user, terms(1).buckets());
    let answer = node.reserve(lane, None, vec![request(user)]).await?;
    Ok(answer.outcomes.into_iter().next().unwrap())
}

async fn placed(node: &Tiered, user: UserId) -> Order {
    match reserve(node, user).await.unwrap() {
        Outcome::Reserved { order, .. } => *order,
        other => panic!("{other:?}"),
    }
}

fn removal(id: &str) -> Adjustment {
    let by = Attribution { actor: "wang".parse().unwrap(), reason: "a test".parse().unwrap() };
    Adjustment { activity: activity(), sku: sku(), id: AdjustmentId::new(id).unwrap(), delta: -1, by }
}

/// Repeats a call that may fail while faults are injected.
async fn repeated<T, F>(call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, LedgerError>>,
{
    for _ in 0..1_000 {
        if let Ok(answer) = call().await {
            return answer;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the call never succeeds");
}

/// Before positions were compared alone, the node with the lower fencing token failed for ever after
/// the other's first transaction.
#[tokio::test(start_paused = true)]
async fn each_of_two_nodes_persists_adjusts_and_collects() {
    let tiers = Tiers::new(1);
    let nodes = [tiers.node(), tiers.node()];
    tiers.open(&nodes[0], 60).await;
    for round in 0..4 {
        for (index, node) in nodes.iter().enumerate() {
            let order = placed(node, buyer(0, 2 * round + index)).await;
            assert!(!tiers.is_persisted(&order).await);
            node.settle(activity()).await.unwrap();
            assert!(tiers.is_persisted(&order).await, "round {round}, node {index}");
            let removed = node.adjust(removal(&format!("{round}, {index}"))).await;
            assert_eq!(removed.unwrap(), Adjusted::Done);
            let transfer = node.send(lane(1), 2, sku(), 1).await.unwrap().unwrap();
            assert!(node.receive(transfer).await.unwrap());
            node.forget(transfer).await.unwrap();
            assert_eq!(node.transfers(lane(1)).await.unwrap(), [transfer], "its arrival is not persisted");
            node.settle(activity()).await.unwrap();
            node.forget(transfer).await.unwrap();
            assert_eq!(node.transfers(lane(1)).await.unwrap(), []);
        }
    }
    assert_eq!(tiers.epoch().await, Epoch(1), "nothing was rebuilt");
}

#[tokio::test(start_paused = true)]
async fn losing_a_race_is_no_error_and_no_reason_to_rebuild() {
    for seed in 0..30 {
        let tiers = Tiers::new(seed);
        let options = TieredOptions { entries: 2, ..TieredOptions::default() };
        let nodes: Vec<_> = (0..4).map(|_| tiers.node_with(options)).collect();
        tiers.open(&nodes[0], 300).await;
        tiers.gate_faults.interleave();
        tiers.truth_faults.interleave();
        let mut running = JoinSet::new();
        for (index, node) in nodes.into_iter().enumerate() {
            running.spawn(async move {
                for n in 0..12 {
                    placed(&node, buyer(u16::try_from(n % 3).unwrap(), 4 * n + index)).await;
                    let pumped = node.pump(activity()).await.unwrap();
                    assert!(matches!(pumped, Pumped::Quiet | Pumped::Moved), "{pumped:?}");
                }
                node.settle(activity()).await.unwrap();
            });
        }
        running.join_all().await;
        assert_eq!(tiers.epoch().await, Epoch(1), "nothing was rebuilt");
        let stock = tiers.truth.stock(activity(), sku()).await.unwrap().unwrap();
        assert_eq!((stock.available, stock.held), (252, 48), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn running_nodes_persist_everything_through_faults_and_none_starves() {
    for seed in 0..20 {
        let tiers = Arc::new(Tiers::new(seed));
        let count = 2 + usize::try_from(seed % 4).unwrap();
        let options =
            TieredOptions { entries: 3, content: 4, patience: Duration::from_millis(100 * (seed % 3)) };
        let nodes: Vec<_> = (0..count).map(|_| tiers.node_with(options)).collect();
        tiers.open(&nodes[0], 1_000).await;
        tiers.set_percent(20);
        let (stop, stopped) = watch::channel(false);
        let mut pumps = JoinSet::new();
        let mut buyers = JoinSet::new();
        for (index, node) in nodes.iter().cloned().enumerate() {
            pumps.spawn(Arc::clone(&node).run(stopped.clone()));
            buyers.spawn(async move {
                let mut orders = Vec::new();
                for n in 0..15 {
                    let user = buyer(u16::try_from(n % 3).unwrap(), 5 * n + index);
                    let outcome = repeated(|| async {
                        match reserve(&node, user).await? {
                            Outcome::NotReady => Err(LedgerError::NotOpen),
                            outcome => Ok(outcome),
                        }
                    });
                    orders.push(outcome.await.order().unwrap().clone());
                    if n % 5 == 0 {
                        let removal = removal(&format!("{n} by {index}"));
                        repeated(|| node.adjust(removal.clone())).await;
                        let sent = repeated(|| node.send(lane(1), 0, sku(), 2)).await;
                        if let Some(transfer) = sent {
                            let _ = node.receive(transfer).await;
                        }
                    }
                    sleep(Duration::from_millis(3)).await;
                }
                orders
            });
        }
        let orders: Vec<_> = buyers.join_all().await.into_iter().flatten().collect();
        assert_eq!(orders.len(), 15 * count);
        tiers.set_percent(0);
        // Faults are over: every node does what it has to in a few looks, without being asked.
        sleep(Duration::from_secs(10)).await;
        for order in &orders {
            assert!(tiers.is_persisted(order).await, "seed {seed}: {order:?}");
            let known = tiers.gate.order(order.key).await.unwrap().unwrap();
            assert!(known.persisted, "seed {seed}: {known:?}");
        }
        for node in &nodes {
            assert_eq!(node.pump(activity()).await.unwrap(), Pumped::Quiet, "seed {seed}");
        }
        for transfer in nodes[1].transfers(lane(1)).await.unwrap() {
            assert!(nodes[1].receive(transfer).await.unwrap());
        }
        sleep(Duration::from_secs(2)).await;
        for transfer in nodes[0].transfers(lane(1)).await.unwrap() {
            nodes[0].forget(transfer).await.unwrap();
        }
        assert_eq!(nodes[0].transfers(lane(1)).await.unwrap(), []);
        stop.send_replace(true);
        pumps.join_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_left_to_the_node_that_loads_it() {
    let tiers = Tiers::new(1);
    let nodes = [tiers.node(), tiers.node()];
    tiers.open(&nodes[0], 9).await;
    // A third node takes the next epoch and dies.
    tiers.gate.close(activity(), Epoch(1)).await.unwrap();
    tiers.truth.next_epoch(activity(), Epoch(1)).await.unwrap();
    assert_eq!(nodes[1].pump(activity()).await.unwrap(), Pumped::Waiting);
    assert_eq!(nodes[0].pump(activity()).await.unwrap(), Pumped::Waiting);
    sleep(TieredOptions::default().patience).await;
    assert_eq!(nodes[1].pump(activity()).await.unwrap(), Pumped::Rebuilt);
    assert_eq!(nodes[0].pump(activity()).await.unwrap(), Pumped::Quiet);
    assert_eq!(tiers.epoch().await, Epoch(3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_pump_asks_for_the_epoch_once() {
    let tiers = Tiers::new(1);
    let (pumping, selling) = (tiers.node(), tiers.node());
    tiers.open(&pumping, 60).await;
    let before = tiers.truth_faults.calls();
    for n in 0..10 {
        placed(&selling, buyer(0, n)).await;
    }
    assert_eq!(tiers.truth_faults.calls() - before, 1);

    // Another node rebuilds the gate: the next order finds out, and is placed all the same.
    pumping.rebuild(activity(), Epoch(1)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    placed(&selling, buyer(0, 10)).await;
    // While a gate is not ready, the truth is not asked by every request.
    tiers.gate.close(activity(), Epoch(2)).await.unwrap();
    let before = tiers.truth_faults.calls();
    for n in 11..30 {
        assert_eq!(reserve(&selling, buyer(0, n)).await.unwrap(), Outcome::NotReady);
    }
    assert!(tiers.truth_faults.calls() - before <= 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_pump_looks_seldom_and_is_woken_by_orders_only() {
    let tiers = Tiers::new(1);
    let node = tiers.node();
    tiers.open(&node, 3).await;
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::clone(&node).run(stopped));
    sleep(Duration::from_millis(100)).await;
    let calls = || tiers.truth_faults.calls() + tiers.gate_faults.calls();
    let before = calls();
    sleep(Duration::from_secs(10)).await;
    let looks = (calls() - before) / 10;
    assert!(looks <= 8 + 5 * u64::from(BUCKETS), "{looks} calls a second");

    let (began, order) = (Instant::now(), placed(&node, buyer(1, 0)).await);
    while !tiers.is_persisted(&order).await || !tiers.gate.order(order.key).await.unwrap().unwrap().persisted
    {
        yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "an order is persisted at once");
    sleep(Duration::from_millis(100)).await;
    let before = tiers.truth_faults.calls();
    for n in 1..20 {
        assert!(matches!(reserve(&node, buyer(1, n)).await.unwrap(), Outcome::SoldOut { .. }));
        yield_now().await;
    }
    assert_eq!(tiers.truth_faults.calls(), before, "declined requests are nothing to pump");
    stop.send_replace(true);
    running.await.unwrap();
}

/// Mistake: before its source may forget the units that a buyer gets from another lane, the truth has
/// to persist their arrival, and the buyer waits for that.
#[tokio::test]
async fn an_order_for_units_of_another_lane_does_not_wait_for_the_truth() {
    let tiers = Tiers::new(1);
    let node = tiers.node();
    let clock = Arc::new(ManualClock::new(NOW));
    for bucket in 0..BUCKETS {
        tiers.gate.advance_time(lane(bucket), NOW).await;
        tiers.truth.advance_time(lane(bucket), NOW).await;
    }
    let background = tokio::runtime::Handle::current();
    let sales = Sales::new(node, Arc::clone(&clock) as _, background, BatcherOptions::default());
    let sales = Arc::new(sales);
    sales.open(terms(6)).await.unwrap();
    let settings = Settings { term: Duration::from_secs(86_400), ..Settings::default() };
    let ids = Generator::acquire(&InMemoryLease::new(0..=9), &settings, clock as _).await.unwrap();
    let ordering = OrderService::new(Arc::clone(&sales), Arc::new(ids));
    let place = async |user: UserId| {
        let request = OrderRequest {
            activity: activity(),
            user,
            sku: sku(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(1), nonce: Nonce(user.value()) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        ordering.place(&request).await.unwrap()
    };
    let (before, faults) = (tiers.truth_faults.calls(), &tiers.truth_faults);
    faults.set_percent(100);
    // All units go to buyers of one lane, which has two of the six.
    for n in 0..6 {
        let placement = place(buyer(1, n)).await;
        assert!(matches!(placement, Placement::Placed(..)), "{n}: {placement:?}");
    }
    assert_eq!(place(buyer(1, 6)).await, Placement::Declined(Outcome::SoldOut { available: 0 }));
    assert_eq!(faults.calls(), before, "the truth was asked");
    let transfers = sales.ledger().transfers(lane(0)).await.unwrap();
    assert!(!transfers.is_empty(), "the source keeps what has arrived until that is persisted");
}
