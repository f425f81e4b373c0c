//! What the suite cannot arrange: stores that fail or change in the middle of a step.

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
        ActivityId, Capture, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, Quantity, Strategy,
        Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        AdjustmentId, Bounds, Consumer, Kept, Lane, LedgerCalls as _, LedgerError, Outcome, Reference,
        Reserve, ReserveMode, Terms, Timing,
        rows::{Changes, Excerpt, Needs, OrderRow, RowLedger, Rows},
    },
};

/// Maps whose finds fail from a certain one on, and whose deadlines show only in every second read.
#[derive(Debug)]
struct Unsteady {
    maps: MapRows,
    finds: AtomicUsize,
    finds_before_failing: AtomicUsize,
    due_reads: AtomicUsize,
}

#[async_trait]
impl Rows for Unsteady {
    fn bounds(&self) -> Bounds {
        self.maps.bounds()
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
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

    async fn find(&self, reference: Reference) -> Result<Option<(Lane, UserId)>, LedgerError> {
        if self.finds.fetch_add(1, Ordering::SeqCst) >= self.finds_before_failing.load(Ordering::SeqCst) {
            return Err(LedgerError::Unavailable("the store is down".into()));
        }
        self.maps.find(reference).await
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

async fn open() -> (Arc<Unsteady>, Arc<ManualClock>, RowLedger<Unsteady>) {
    let rows = Arc::new(Unsteady {
        maps: MapRows::default(),
        finds: AtomicUsize::new(0),
        finds_before_failing: AtomicUsize::new(usize::MAX),
        due_reads: AtomicUsize::new(0),
    });
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let ledger = RowLedger::single(Arc::clone(&rows), Arc::clone(&clock) as _);
    let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
    let hold = Some(Duration::from_secs(60));
    let offer = OfferTerms::new(1.try_into().unwrap(), price, 99, Strategy::PreDeduct, hold).unwrap();
    let window = Window::new(Timestamp::from_millis(0), Timestamp::from_millis(3_600_000)).unwrap();
    let terms = Terms::new(activity(), window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap();
    ledger.register(&Consumer::new("audit")).await.unwrap();
    ledger.open(Arc::new(terms)).await.unwrap();
    (rows, clock, ledger)
}

/// A definite error would say that the capture is not kept.
#[tokio::test]
async fn an_error_after_the_step_is_indefinite() {
    let (rows, _, ledger) = open().await;
    let capture = Capture {
        provider: "sandbox".parse().unwrap(),
        event: "event".parse().unwrap(),
        payment: 1.try_into().unwrap(),
        transaction: "transaction".parse().unwrap(),
        amount: 100,
        currency: "CNY".parse().unwrap(),
    };
    rows.finds_before_failing.store(1, Ordering::SeqCst);
    let error = ledger.keep_unmatched(capture.clone()).await.unwrap_err();
    assert!(!error.is_definite(), "{error}");
    rows.finds_before_failing.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(ledger.keep_unmatched(capture).await.unwrap(), Kept::Kept);
}

#[tokio::test]
async fn a_step_ends_although_deadlines_come_and_go() {
    let (_, clock, ledger) = open().await;
    let lane = Lane::first(activity());
    ledger.reserve(lane, None, vec![request(1), request(2)]).await.unwrap();
    clock.advance(Duration::from_secs(61));
    ledger.expire_due(lane, 9).await.unwrap();
    ledger.expire_due(lane, 9).await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_stands_still_stops_new_orders() {
    let (_, _, ledger) = open().await;
    let ledger = ledger.with_max_unread(3);
    let lane = Lane::first(activity());
    // With the opening, these are four entries.
    ledger.reserve(lane, None, vec![request(1), request(2), request(3)]).await.unwrap();
    let error = ledger.reserve(lane, None, vec![request(4)]).await.unwrap_err();
    assert!(error.is_definite() && error.to_string().contains("audit"), "{error}");
    let again = ledger.reserve(lane, None, vec![request(1)]).await.unwrap();
    assert!(matches!(again.outcomes[..], [Outcome::Replayed(_)]));
    let last = ledger.events(&Consumer::new("audit"), lane, None, 9).await.unwrap().pop().unwrap();
    ledger.ack(&Consumer::new("audit"), lane, last.position).await.unwrap();
    ledger.reserve(lane, None, vec![request(4)]).await.unwrap();
}
