//! Batching: many concurrent requests become one call of the ledger.
//!
//! 1. A request joins the queue of its lane.
//! 2. While one batch is in flight, or as many as the ledger wants ([`Bounds::max_in_flight`]), the
//!    next one grows.
//! 3. As soon as the ledger answers, the whole queue becomes the next batch, up to
//!    [`Bounds::max_batch`].
//!
//! An idle lane therefore answers after one round trip, a busy one in large batches, and there is
//! no timer to tune.
//!
//! [`Bounds::max_in_flight`]: crate::ledger::Bounds::max_in_flight
//! [`Bounds::max_batch`]: crate::ledger::Bounds::max_batch

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
};

use super::{
    batch_loop::{BatchLoop, Shared},
    batch_queue::{Answer, Backlog, BatchQueue},
    batcher_metrics::BatcherMetrics,
    kill_switch::KillSwitchFlag,
    lane_changes::LaneChanges,
    recent_buyers::RecentBuyers,
};
use crate::{
    domain::Timestamp,
    ledger::{Advance, Advanced, Lane, Ledger, LedgerError, Outcome, Reserve},
};

/// Bounds of a batcher's queue.
#[derive(Clone, Debug)]
pub struct BatcherOptions {
    /// The most requests for units that may wait. Default 65,536.
    pub reserve_room: usize,
    /// The most later steps of orders that may wait. Default 16,384. They have room of their own,
    /// so that a rush for units does not keep buyers from paying.
    pub advance_room: usize,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self { reserve_room: 65_536, advance_room: 16_384 }
    }
}

/// Why a batcher has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatcherError {
    /// The queue is full. Nothing was done.
    #[error("too many requests are waiting")]
    Busy {
        /// When to try again: 50 ms to 5 s, from the length of the queue and the time that the last
        /// batch took.
        retry_after: Duration,
    },
    /// The ledger answered the batch with an error.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Gathers requests for one lane into batches.
///
/// A task of its own calls the ledger: if a caller drops its future, its request is decided all the
/// same. If the batcher is dropped, the task finishes what waits.
#[derive(Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    /// Closed when the task has ended.
    ended: watch::Receiver<()>,
}

impl Batcher {
    /// A batcher whose task runs on `background`.
    pub fn new(ledger: Arc<dyn Ledger>, lane: Lane, options: BatcherOptions, background: &Handle) -> Self {
        Self::of_sale(Arc::default(), Arc::default(), ledger, lane, options, background)
    }

    /// As [`Batcher::new`]; while `kill_switch` is on, requests find only the orders that their
    /// keys made before. What may have changed the lane is noted in `changes`.
    pub(crate) fn of_sale(
        kill_switch: Arc<KillSwitchFlag>,
        changes: Arc<LaneChanges>,
        ledger: Arc<dyn Ledger>,
        lane: Lane,
        options: BatcherOptions,
        background: &Handle,
    ) -> Self {
        let max_batch = ledger.bounds().max_batch.max(1);
        let queue = Mutex::new(BatchQueue::new(options.reserve_room, options.advance_room, max_batch));
        let (recent, metrics, wake) = (RecentBuyers::new(), BatcherMetrics::default(), Notify::new());
        let shared = Arc::new(Shared { ledger, lane, kill_switch, changes, recent, metrics, queue, wake });
        let (end, ended) = watch::channel(());
        background.spawn(BatchLoop::new(Arc::clone(&shared), end).run());
        Self { shared, ended }
    }

    /// Decides a request for units.
    ///
    /// # Errors
    /// [`BatcherError`]; [`LedgerError::Unavailable`] after [`Batcher::drain`].
    pub async fn reserve(&self, request: Reserve) -> Result<(Timestamp, Outcome), BatcherError> {
        let answer = self.enqueue(|queue| &mut queue.reserves, request)?;
        wait_for(answer).await
    }

    /// Takes a later step of an order. Such steps overtake requests for units that wait.
    ///
    /// # Errors
    /// [`BatcherError`]; [`LedgerError::Unavailable`] after [`Batcher::drain`].
    pub async fn advance(&self, step: Advance) -> Result<(Timestamp, Advanced), BatcherError> {
        let answer = self.enqueue(|queue| &mut queue.advances, step)?;
        wait_for(answer).await
    }

    fn enqueue<I, O>(
        &self,
        backlog: impl FnOnce(&mut BatchQueue) -> &mut Backlog<I, O>,
        item: I,
    ) -> Result<oneshot::Receiver<Answer<O>>, BatcherError> {
        let (reply, answer) = oneshot::channel();
        let was_idle = {
            let mut queue = self.shared.queue();
            if queue.is_closed {
                return Err(LedgerError::Unavailable("this process is shutting down".into()).into());
            }
            let round_trip = queue.round_trip;
            let backlog = backlog(&mut queue);
            if !backlog.push(item, reply) {
                return Err(BatcherError::Busy { retry_after: backlog.retry_after(round_trip) });
            }
            std::mem::take(&mut queue.is_idle)
        };
        if was_idle {
            self.shared.wake.notify_one();
        }
        Ok(answer)
    }

    /// The buyers who won recently in this lane.
    pub fn recent(&self) -> &RecentBuyers {
        &self.shared.recent
    }

    /// What the batcher has done since the start.
    pub fn metrics(&self) -> &BatcherMetrics {
        &self.shared.metrics
    }

    /// How many requests and steps wait. Those in flight are not counted.
    pub fn waiting(&self) -> usize {
        self.shared.queue().len()
    }

    /// Takes no new work, and returns when everything that waited is answered.
    pub async fn drain(&self) {
        self.shared.close();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.close();
    }
}

async fn wait_for<O>(answer: oneshot::Receiver<Answer<O>>) -> Result<(Timestamp, O), BatcherError> {
    let gone = || LedgerError::Unknown("the runtime of the batcher has ended".into());
    Ok(answer.await.map_err(|_| gone())??)
}

#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests {
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Poll, Waker},
    };

    #[cfg(feature = "conformance")]
    use std::sync::atomic::Ordering;

    use super::*;
    #[cfg(feature = "conformance")]
    use crate::conformance::{Faults, Faulty};
    use crate::{
        domain::{
            ActivityId, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, OrderId, OrderKey, Quantity,
            SkuId, Strategy, Subjects, UserId, Window,
        },
        embedded::{EmbeddedLedger, EmbeddedOptions},
        ledger::{BatchId, LedgerCalls as _, LedgerRole, Position, ReserveMode, Terms, Timing},
    };

    fn lane() -> Lane {
        Lane::first(ActivityId::new(1).unwrap())
    }

    async fn engine(units: u32) -> Arc<EmbeddedLedger> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let engine = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, clock));
        engine.open(terms(units)).await.unwrap();
        engine
    }

    fn terms(units: u32) -> Arc<Terms> {
        let price = Money::new(990, "CNY".parse().unwrap()).unwrap();
        let offer = OfferTerms::new(SkuId::new(7).unwrap(), price, units, Strategy::OrderTime, None).unwrap();
        let window = Window::new(Timestamp::EPOCH, Timestamp::from_millis(1_000_000)).unwrap();
        let terms =
            Terms::new(lane().activity, window, std::num::NonZeroU16::MIN, Timing::default(), vec![offer]);
        Arc::new(terms.unwrap())
    }

    fn batcher(engine: &Arc<EmbeddedLedger>, options: BatcherOptions) -> Batcher {
        Batcher::new(Arc::clone(engine) as Arc<dyn Ledger>, lane(), options, &Handle::current())
    }

    fn request(n: u64) -> Reserve {
        Reserve {
            order: OrderId::new(n).unwrap(),
            user: UserId::new(n).unwrap(),
            sku: SkuId::new(7).unwrap(),
            quantity: Quantity::try_from(1).unwrap(),
            idempotency: Idempotency { key: Key(n.into()), nonce: Nonce(n) },
            subjects: Subjects::default(),
            mode: ReserveMode::NewOrder,
        }
    }

    fn cancel(n: u64) -> Advance {
        let key = OrderKey {
            activity: lane().activity,
            user: UserId::new(n).unwrap(),
            id: OrderId::new(n).unwrap(),
        };
        Advance::Cancel { order: key, by: None }
    }

    /// Keeps the ledger from deciding anything until the answer is dropped.
    fn block(engine: &Arc<EmbeddedLedger>) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let mut step = Box::pin(engine.call(move |_, _| {
            let _ = released.recv();
            Ok(())
        }));
        assert!(poll(&mut step).is_pending());
        release
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Puts work into the queue, and answers the future that waits for it.
    fn start<F: Future>(future: F) -> Pin<Box<F>> {
        let mut future = Box::pin(future);
        assert!(poll(&mut future).is_pending());
        future
    }

    /// Waits until the task has taken everything that waits.
    async fn taken(batcher: &Batcher) {
        while batcher.waiting() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn position(answer: Result<(Timestamp, Outcome), BatcherError>) -> Position {
        match answer {
            Ok((_, Outcome::Reserved { position, .. })) => position,
            other => panic!("not reserved: {other:?}"),
        }
    }

    #[tokio::test]
    async fn an_idle_lane_answers_each_request_in_a_batch_of_its_own() {
        let engine = engine(10).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        let first = position(batcher.reserve(request(1)).await);
        let second = position(batcher.reserve(request(2)).await);
        assert_eq!(second.batch, BatchId(first.batch.0.wrapping_add(1)));
    }

    #[tokio::test]
    async fn what_comes_during_a_batch_is_the_next_one_in_order() {
        let engine = engine(1_000).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let first = start(batcher.reserve(request(1)));
        taken(&batcher).await;
        let rest: Vec<_> = (2..=300).map(|n| start(batcher.reserve(request(n)))).collect();
        tokio::task::yield_now().await;
        assert_eq!(batcher.waiting(), 299, "one batch is in flight");
        drop(release);
        let first = position(first.await);
        for (sequence, answer) in (first.sequence + 1..).zip(rest) {
            let position = position(answer.await);
            assert_eq!(position.batch, BatchId(first.batch.0.wrapping_add(1)));
            assert_eq!(position.sequence, sequence);
        }
    }

    #[tokio::test]
    async fn a_ledger_that_decides_while_it_commits_gets_two_batches_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let engine =
            EmbeddedLedger::open(EmbeddedOptions::new(directory.path(), LedgerRole::Single, clock)).unwrap();
        let engine = Arc::new(engine);
        engine.open(terms(1_000)).await.unwrap();
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let first = start(batcher.reserve(request(1)));
        taken(&batcher).await;
        let second = start(batcher.reserve(request(2)));
        taken(&batcher).await;
        let rest: Vec<_> = (3..=100).map(|n| start(batcher.reserve(request(n)))).collect();
        tokio::task::yield_now().await;
        assert_eq!(batcher.waiting(), 98, "two batches are in flight");
        drop(release);
        let (first, second) = (position(first.await), position(second.await));
        assert_eq!(second.batch, BatchId(first.batch.0.wrapping_add(1)));
        for (sequence, answer) in (first.sequence + 2..).zip(rest) {
            let position = position(answer.await);
            assert_eq!(position.batch, BatchId(second.batch.0.wrapping_add(1)));
            assert_eq!(position.sequence, sequence);
        }
    }

    #[tokio::test]
    async fn a_batch_is_no_larger_than_the_ledger_takes() {
        let engine = engine(10_000).await;
        let most = engine.bounds().max_batch as u64;
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let all: Vec<_> = (1..=most + 5).map(|n| start(batcher.reserve(request(n)))).collect();
        drop(release);
        for answer in all {
            position(answer.await);
        }
    }

    #[tokio::test]
    async fn steps_go_before_requests_that_came_earlier() {
        let engine = engine(1).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        position(batcher.reserve(request(1)).await);
        let release = block(&engine);
        let declined = start(batcher.reserve(request(2)));
        taken(&batcher).await;
        let reserve = start(batcher.reserve(request(3)));
        let cancel = start(batcher.advance(cancel(1)));
        drop(release);
        assert!(matches!(declined.await, Ok((_, Outcome::SoldOut { available: 0 }))));
        position(reserve.await);
        assert!(matches!(cancel.await, Ok((_, Advanced::Done(_)))));
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_before_anything_is_done_and_has_room_for_steps() {
        let engine = engine(10).await;
        let batcher = batcher(&engine, BatcherOptions { reserve_room: 2, advance_room: 1 });
        let release = block(&engine);
        let first = start(batcher.reserve(request(1)));
        taken(&batcher).await;
        let waiting = [2, 3].map(|n| start(batcher.reserve(request(n))));
        let Err(BatcherError::Busy { retry_after }) = batcher.reserve(request(4)).await else {
            panic!("there was room")
        };
        assert!((Duration::from_millis(50)..=Duration::from_secs(5)).contains(&retry_after));
        let step = start(batcher.advance(cancel(1)));
        assert!(matches!(batcher.advance(cancel(1)).await, Err(BatcherError::Busy { .. })));
        drop(release);
        position(first.await);
        for answer in waiting {
            position(answer.await);
        }
        assert!(matches!(step.await, Ok((_, Advanced::Done(_)))));
        let stock = engine.stock(lane().activity, SkuId::new(7).unwrap()).await.unwrap().unwrap();
        assert_eq!((stock.held, stock.available), (2, 8));
        position(batcher.reserve(request(4)).await);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_nothing_half_way() {
        let engine = engine(10).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let in_flight = start(batcher.reserve(request(1)));
        taken(&batcher).await;
        let waiting = start(batcher.reserve(request(2)));
        drop((in_flight, waiting));
        drop(release);
        batcher.drain().await;
        for n in 1..=2 {
            let Advance::Cancel { order, .. } = cancel(n) else { unreachable!() };
            assert!(engine.order(order).await.unwrap().is_some(), "order {n}");
        }
    }

    #[tokio::test]
    async fn an_error_of_the_ledger_concerns_the_whole_batch() {
        let engine = engine(10).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let mut failing = start(engine.call::<(), _>(|_, _| panic!("seeded")));
        let first = start(batcher.reserve(request(1)));
        taken(&batcher).await;
        let rest = [2, 3, 4].map(|n| start(batcher.reserve(request(n))));
        drop(release);
        assert!((&mut failing).await.is_err());
        let is_over = |answer| matches!(answer, Err(BatcherError::Ledger(LedgerError::Stopped(_))));
        assert!(is_over(first.await));
        for answer in rest {
            assert!(is_over(answer.await));
        }
    }

    #[cfg(feature = "conformance")]
    #[tokio::test]
    async fn a_panic_of_the_ledger_fails_one_batch_and_the_lane_goes_on() {
        let engine = engine(10).await;
        let faults = Faults::new(0);
        let ledger = Faulty::new(Arc::clone(&engine), Arc::clone(&faults));
        let batcher = Batcher::new(ledger, lane(), BatcherOptions::default(), &Handle::current());
        faults.panic_once();
        let batch = [1, 2].map(|n| start(batcher.reserve(request(n))));
        for answer in batch {
            let answer = answer.await;
            assert!(matches!(answer, Err(BatcherError::Ledger(LedgerError::Unknown(_)))), "{answer:?}");
        }
        position(batcher.reserve(request(1)).await);
        faults.panic_once();
        let answer = batcher.advance(cancel(1)).await;
        assert!(matches!(answer, Err(BatcherError::Ledger(LedgerError::Unknown(_)))), "{answer:?}");
        assert!(matches!(batcher.advance(cancel(1)).await, Ok((_, Advanced::Done(_)))));
        assert_eq!(batcher.metrics().failed.load(Ordering::Relaxed), 2);
        batcher.drain().await;
    }

    #[tokio::test]
    async fn draining_finishes_what_waits_and_takes_nothing_new() {
        let engine = engine(10).await;
        let batcher = batcher(&engine, BatcherOptions::default());
        let release = block(&engine);
        let all: Vec<_> = (1..=5).map(|n| start(batcher.reserve(request(n)))).collect();
        let drained = start(batcher.drain());
        assert!(matches!(
            batcher.reserve(request(6)).await,
            Err(BatcherError::Ledger(LedgerError::Unavailable(_)))
        ));
        drop(release);
        drained.await;
        for answer in all {
            position(answer.await);
        }
        batcher.drain().await;
    }

    #[test]
    fn callers_are_told_when_the_runtime_ends() {
        let background = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let engine = runtime.block_on(engine(10));
        let batcher =
            Batcher::new(Arc::clone(&engine) as _, lane(), BatcherOptions::default(), background.handle());
        let release = block(&engine);
        let waiting = start(batcher.reserve(request(1)));
        background.shutdown_background();
        runtime.block_on(async {
            let answer = waiting.await;
            assert!(matches!(answer, Err(BatcherError::Ledger(LedgerError::Unknown(_)))), "{answer:?}");
            assert!(batcher.reserve(request(2)).await.is_err());
        });
        drop(release);
    }
}
