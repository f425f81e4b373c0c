//! What the suite cannot arrange: stores that change in the middle of a step.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::MapRows,
    domain::{
        ActivityId, Attribution, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, OrderId, Quantity,
        Selling, Strategy, Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        AdjustmentId, Bounds, Change, ChangeId, Consumer, Lane, LedgerCalls as _, LedgerError, Opened,
        Outcome, Reserve, ReserveMode, Terms, Timing,
        rows::{Changes, Excerpt, Needs, OrderRow, RowLedger, Rows},
    },
};

/// Maps whose deadlines show only in every second read, to which each commit is delivered twice, and which
/// may fail after some commits.
#[derive(Debug)]
struct Unsteady {
    maps: MapRows,
    reads: AtomicUsize,
    due_reads: AtomicUsize,
    commits_left: AtomicUsize,
}

#[async_trait]
impl Rows for Unsteady {
    fn bounds(&self) -> Bounds {
        self.maps.bounds()
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mut needs = needs.clone();
        if needs.due > 0 {
            let reads = self.due_reads.fetch_add(1, Ordering::SeqCst);
            assert!(reads < 100, "a step reads for ever");
            if reads.is_multiple_of(2) {
                needs.due = 0;
            }
        }
        self.maps.read(lane, &needs).await
    }

    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError> {
        let left = self.commits_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(LedgerError::Unavailable("the store is down".into()));
        }
        self.commits_left.store(left - 1, Ordering::SeqCst);
        self.maps.commit(lane, changes).await?;
        self.maps.commit(lane, changes).await
    }

    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError> {
        self.maps.orders(lane, owed, after, limit).await
    }

    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.maps.entries(lane, from, limit).await
    }

    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError> {
        self.maps.adjustments(lane).await
    }

    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        Rows::lanes(&self.maps).await
    }

    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError> {
        self.maps.find(activity, order).await
    }
}

fn activity() -> ActivityId {
    ActivityId::new(7).unwrap()
}

fn request(n: u64) -> Reserve {
    Reserve {
        order: n.try_into().unwrap(),
        user: n.try_into().unwrap(),
        sku: 1.try_into().unwrap(),
        quantity: Quantity::ONE,
        idempotency: Idempotency { key: Key(n.into()), nonce: Nonce(n) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    }
}

async fn open() -> (Arc<ManualClock>, RowLedger<Unsteady>) {
    open_on(Arc::new(unsteady())).await
}

fn unsteady() -> Unsteady {
    Unsteady {
        maps: MapRows::default(),
        reads: AtomicUsize::new(0),
        due_reads: AtomicUsize::new(0),
        commits_left: AtomicUsize::new(usize::MAX),
    }
}

fn terms(buckets: NonZeroU16) -> Arc<Terms> {
    let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
    let hold = Some(Duration::from_secs(60));
    let offer = OfferTerms::new(1.try_into().unwrap(), price, 99, Strategy::PreDeduct, hold).unwrap();
    let window = Window::new(Timestamp::from_millis(0), Timestamp::from_millis(3_600_000)).unwrap();
    Arc::new(Terms::new(activity(), window, buckets, Timing::default(), vec![offer]).unwrap())
}

async fn open_on<R: Rows + 'static>(rows: Arc<R>) -> (Arc<ManualClock>, RowLedger<R>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let ledger = RowLedger::single(rows, Arc::clone(&clock) as _);
    ledger.register(&Consumer::new("audit")).await.unwrap();
    ledger.open(terms(NonZeroU16::MIN)).await.unwrap();
    (clock, ledger)
}

#[tokio::test]
async fn a_step_ends_although_deadlines_come_and_go() {
    let (clock, ledger) = open().await;
    let lane = Lane::first(activity());
    ledger.reserve(lane, None, vec![request(1), request(2)]).await.unwrap();
    clock.advance(Duration::from_secs(61));
    ledger.expire_due(lane, 9).await.unwrap();
    ledger.expire_due(lane, 9).await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_stands_still_stops_new_orders() {
    let (_, ledger) = open().await;
    let ledger = ledger.with_max_unread(3);
    let lane = Lane::first(activity());
    // With the opening, these are four entries.
    ledger.reserve(lane, None, vec![request(1), request(2), request(3)]).await.unwrap();
    let error = ledger.reserve(lane, None, vec![request(4)]).await.unwrap_err();
    assert!(error.is_definite() && error.to_string().contains("audit"), "{error}");
    let again = ledger.reserve(lane, None, vec![request(1)]).await.unwrap();
    assert!(matches!(again.outcomes[..], [Outcome::Replayed { .. }]));
    let last = ledger.events(&Consumer::new("audit"), lane, None, 9).await.unwrap().pop().unwrap();
    ledger.ack(&Consumer::new("audit"), lane, last.position).await.unwrap();
    ledger.reserve(lane, None, vec![request(4)]).await.unwrap();
}

/// A store may lose commits. A version that it then gives again would let a commit overwrite what it has
/// not read.
#[tokio::test]
async fn a_version_does_not_come_back_after_a_loss() {
    let (rows, lane) = (Arc::new(MapRows::default()), Lane::first(activity()));
    let (_, ledger) = open_on(Arc::clone(&rows)).await;
    let version = async || rows.read(lane, &Needs::default()).await.unwrap().version;
    let copy = rows.copy();
    ledger.reserve(lane, None, vec![request(1)]).await.unwrap();
    let lost = version().await;
    rows.replace(&copy, |_| true);
    ledger.reserve(lane, None, vec![request(2)]).await.unwrap();
    assert_ne!(version().await, lost);
    let late = Changes { version: lost, next: 1, clear: true, ..Changes::default() };
    assert!(!rows.commit(lane, &late).await.unwrap());
}

#[tokio::test]
async fn a_commit_that_is_delivered_twice_is_answered_once() {
    let (_, ledger) = open().await;
    let answer = ledger.reserve(Lane::first(activity()), None, vec![request(1)]).await.unwrap();
    assert!(matches!(answer.outcomes[..], [Outcome::Reserved { .. }]), "{answer:?}");
}

/// A store that fails between two lanes leaves an activity that is not open, and a repeated call opens it.
#[tokio::test]
async fn an_opening_that_stops_halfway_is_finished_by_the_next() {
    let rows = Arc::new(unsteady());
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let ledger = RowLedger::single(Arc::clone(&rows), clock);
    let terms = terms(NonZeroU16::new(2).unwrap());
    rows.commits_left.store(1, Ordering::SeqCst);
    let error = ledger.open(Arc::clone(&terms)).await.unwrap_err();
    assert!(!error.is_definite(), "one lane is open: {error}");
    assert_eq!(ledger.terms(activity()).await.unwrap(), None);
    rows.commits_left.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(ledger.open(Arc::clone(&terms)).await.unwrap(), Opened::Now);
    assert_eq!(ledger.terms(activity()).await.unwrap(), Some(terms));
}

#[tokio::test]
async fn registering_a_known_consumer_again_costs_one_read() {
    let rows = Arc::new(unsteady());
    let (_, ledger) = open_on(Arc::clone(&rows)).await;
    let before = rows.reads.load(Ordering::SeqCst);
    ledger.register(&Consumer::new("audit")).await.unwrap();
    assert_eq!(rows.reads.load(Ordering::SeqCst), before + 1);
}

/// The store loses an order, and gives its number to the next one.
#[tokio::test]
async fn a_view_knows_the_buyers_after_a_loss() {
    let (rows, lane) = (Arc::new(MapRows::default()), Lane::first(activity()));
    let (_, ledger) = open_on(Arc::clone(&rows)).await;
    let copy = rows.copy();
    for buyer in [1, 2] {
        rows.replace(&copy, |_| true);
        ledger.reserve(lane, None, vec![request(buyer)]).await.unwrap();
        let by = Attribution { actor: "Wang Fang".parse().unwrap(), reason: "a pause".parse().unwrap() };
        ledger.amend(activity(), ChangeId(1), Change::Selling(Selling::Paused), by).await.unwrap();
        let buyers = ledger.view(lane).await.unwrap().buyers.unwrap();
        assert!(buyers.may_contain(buyer.try_into().unwrap()), "buyer {buyer}");
    }
}
