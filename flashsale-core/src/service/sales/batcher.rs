//! The queue of a process in front of one lane.
//!
//! A batcher has one batch in flight, or as many as the ledger wants ([`Bounds::max_in_flight`]), and collects the next
//! meanwhile. So an idle lane answers after one round trip, a busy one in large batches, and there is no timer to tune.
//!
//! [`Bounds::max_in_flight`]: crate::ledger::Bounds::max_in_flight

use std::{
    array,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
};

use crate::{
    domain::Timestamp,
    ledger::{Advance, Advanced, Lane, Ledger, LedgerError, Outcome, Reserve, ReserveMode},
    metrics::Histogram,
    service::{RecentBuyers, sales::kill_switch::KillSwitchFlag},
};

/// How a queue is bounded.
#[derive(Clone, Debug)]
pub struct BatcherOptions {
    /// The most requests for units that wait. Default 65,536.
    pub reserve_room: usize,
    /// The most steps in the life of orders that wait. They have room of their own, so that a rush for units does not
    /// keep buyers from paying. Default 16,384.
    pub advance_room: usize,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self { reserve_room: 65_536, advance_room: 16_384 }
    }
}

/// Why a queue did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatcherError {
    /// It is full; nothing was done.
    #[error("too many requests wait already")]
    Busy {
        /// When to try again: 50 ms to 5 s, from the length of the queue and the time that the last batch took.
        retry_after: Duration,
    },
    /// The ledger did not answer the batch.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The queue in front of one lane.
///
/// Work is done by a task of its own: a caller whose future is dropped leaves nothing half-way, its request is decided all
/// the same. Dropping the batcher lets that task finish what waits.
#[derive(Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    /// Closed once the task has ended.
    ended: watch::Receiver<()>,
}

impl Batcher {
    /// A queue whose work is done on `background`.
    pub fn new(ledger: Arc<dyn Ledger>, lane: Lane, options: BatcherOptions, background: &Handle) -> Self {
        Self::with_kill_switch(Arc::default(), ledger, lane, options, background)
    }

    /// As [`Batcher::new`]; while `kill_switch` is on, requests only find the orders that their keys made before.
    pub(crate) fn with_kill_switch(
        kill_switch: Arc<KillSwitchFlag>,
        ledger: Arc<dyn Ledger>,
        lane: Lane,
        options: BatcherOptions,
        background: &Handle,
    ) -> Self {
        let max_batch = ledger.bounds().max_batch.max(1);
        let queue = Queue {
            reserves: Waiting::new(options.reserve_room, max_batch),
            advances: Waiting::new(options.advance_room, max_batch),
            advanced_last: false,
            is_idle: false,
            is_closed: false,
            round_trip: Duration::ZERO,
        };
        let recent = RecentBuyers::new();
        let (queue, metrics) = (Mutex::new(queue), BatcherMetrics::default());
        let shared =
            Arc::new(Shared { ledger, lane, kill_switch, recent, metrics, queue, work: Notify::new() });
        let (end, ended) = watch::channel(());
        background.spawn(BatchLoop { shared: Arc::clone(&shared), _end: end }.run());
        Self { shared, ended }
    }

    /// Decides a request for units.
    ///
    /// # Errors
    /// [`BatcherError`]; a batcher that drains answers [`LedgerError::Unavailable`].
    pub async fn reserve(&self, request: Reserve) -> Result<(Timestamp, Outcome), BatcherError> {
        let answer = self.shared.push(|queue| &mut queue.reserves, request)?;
        answered(answer).await
    }

    /// Takes a step in the life of an order. Steps go before requests for units that wait.
    ///
    /// # Errors
    /// [`BatcherError`]; a batcher that drains answers [`LedgerError::Unavailable`].
    pub async fn advance(&self, step: Advance) -> Result<(Timestamp, Advanced), BatcherError> {
        let answer = self.shared.push(|queue| &mut queue.advances, step)?;
        answered(answer).await
    }

    /// The buyers who got orders here lately.
    pub fn recent(&self) -> &RecentBuyers {
        &self.shared.recent
    }

    /// What was done here since the start.
    pub fn metrics(&self) -> &BatcherMetrics {
        &self.shared.metrics
    }

    /// How many requests and steps wait; those in flight do not.
    pub fn waiting(&self) -> usize {
        let queue = self.shared.queue();
        queue.reserves.len + queue.advances.len
    }

    /// Takes no new work, and finishes what waits.
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

/// What a batcher has done, for monitors.
#[derive(Debug)]
pub struct BatcherMetrics {
    /// Sizes of batches of requests for units.
    pub reserves: Histogram,
    /// Sizes of batches of steps in the life of orders.
    pub advances: Histogram,
    /// How long the ledger took for a batch, in microseconds.
    pub round_trips: Histogram,
    /// Batches that the ledger did not answer.
    pub failed: AtomicU64,
    /// Outcomes of requests for units, in the places of [`Outcome::WORDS`].
    pub reserved: [AtomicU64; Outcome::WORDS.len()],
    /// Outcomes of steps, in the places of [`Advanced::WORDS`].
    pub advanced: [AtomicU64; Advanced::WORDS.len()],
}

impl Default for BatcherMetrics {
    fn default() -> Self {
        const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];
        const MICROS: &[u64] = &[
            100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
            5_000_000,
        ];
        Self {
            reserves: Histogram::new(SIZES),
            advances: Histogram::new(SIZES),
            round_trips: Histogram::new(MICROS),
            failed: AtomicU64::new(0),
            reserved: array::from_fn(|_| AtomicU64::new(0)),
            advanced: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl BatcherMetrics {
    /// Counts a batch, with one addition for each kind of outcome that is in it.
    fn count<T, const N: usize>(
        &self,
        counters: &[AtomicU64; N],
        result: &Result<(Timestamp, Vec<T>), LedgerError>,
        place: impl Fn(&T) -> usize,
    ) {
        let Ok((_, outcomes)) = result else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut counts = [0; N];
        outcomes.iter().for_each(|outcome| counts[place(outcome)] += 1);
        for (counter, count) in counters.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<dyn Ledger>,
    lane: Lane,
    kill_switch: Arc<KillSwitchFlag>,
    recent: RecentBuyers,
    metrics: BatcherMetrics,
    queue: Mutex<Queue>,
    work: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that is done under the lock leaves the queue half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item at the end of its line.
    fn push<I, O>(
        &self,
        line: impl FnOnce(&mut Queue) -> &mut Waiting<I, O>,
        item: I,
    ) -> Result<oneshot::Receiver<Answer<O>>, BatcherError> {
        let (reply, answer) = oneshot::channel();
        let was_idle = {
            let mut queue = self.queue();
            if queue.is_closed {
                return Err(LedgerError::Unavailable("this process takes no more requests".into()).into());
            }
            let round_trip = queue.round_trip;
            let line = line(&mut queue);
            if !line.push(item, reply) {
                return Err(BatcherError::Busy { retry_after: line.retry_after(round_trip) });
            }
            std::mem::take(&mut queue.is_idle)
        };
        if was_idle {
            self.work.notify_one();
        }
        Ok(answer)
    }

    fn close(&self) {
        self.queue().is_closed = true;
        self.work.notify_one();
    }
}

type Answer<O> = Result<(Timestamp, O), LedgerError>;

async fn answered<O>(answer: oneshot::Receiver<Answer<O>>) -> Result<(Timestamp, O), BatcherError> {
    let gone = || LedgerError::Unknown("the runtime of the batcher has ended".into());
    Ok(answer.await.map_err(|_| gone())??)
}

/// What waits.
#[derive(Debug)]
struct Queue {
    reserves: Waiting<Reserve, Outcome>,
    advances: Waiting<Advance, Advanced>,
    /// Whether the batch before was one of steps.
    advanced_last: bool,
    /// Whether the task waits to be woken.
    is_idle: bool,
    is_closed: bool,
    /// How long the last batch took.
    round_trip: Duration,
}

/// The next batch.
enum Work {
    Reserve(Batch<Reserve, Outcome>),
    Advance(Batch<Advance, Advanced>),
}

impl Queue {
    /// Steps go first, but not twice in a row while requests wait, so that neither can keep the other out.
    fn next(&mut self) -> Option<Work> {
        let yields = self.advanced_last && self.reserves.len > 0;
        let advances = if yields { None } else { self.advances.pop() };
        self.advanced_last = advances.is_some();
        advances.map(Work::Advance).or_else(|| self.reserves.pop().map(Work::Reserve))
    }
}

/// Items in their order, cut into batches as they come, so that taking the next one costs the same however many wait.
#[derive(Debug)]
struct Waiting<I, O> {
    batches: VecDeque<Batch<I, O>>,
    len: usize,
    room: usize,
    max_batch: usize,
    /// The size of the last batch: the next is likely to be as large.
    expected: usize,
}

#[derive(Debug)]
struct Batch<I, O> {
    items: Vec<I>,
    replies: Vec<oneshot::Sender<Answer<O>>>,
}

impl<I, O> Waiting<I, O> {
    fn new(room: usize, max_batch: usize) -> Self {
        Self { batches: VecDeque::new(), len: 0, room: room.max(1), max_batch, expected: 0 }
    }

    /// Answers whether there was room.
    fn push(&mut self, item: I, reply: oneshot::Sender<Answer<O>>) -> bool {
        if self.len >= self.room {
            return false;
        }
        self.len += 1;
        match self.batches.back_mut() {
            Some(batch) if batch.items.len() < self.max_batch => batch.push(item, reply),
            _ => {
                let mut batch = Batch {
                    items: Vec::with_capacity(self.expected),
                    replies: Vec::with_capacity(self.expected),
                };
                batch.push(item, reply);
                self.batches.push_back(batch);
            }
        }
        true
    }

    fn pop(&mut self) -> Option<Batch<I, O>> {
        let batch = self.batches.pop_front()?;
        self.len -= batch.items.len();
        self.expected = batch.items.len();
        Some(batch)
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.len = 0;
    }

    fn retry_after(&self, round_trip: Duration) -> Duration {
        let batches = u32::try_from(self.batches.len() + 1).unwrap_or(u32::MAX);
        round_trip.saturating_mul(batches).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl<I, O> Batch<I, O> {
    fn push(&mut self, item: I, reply: oneshot::Sender<Answer<O>>) {
        self.items.push(item);
        self.replies.push(reply);
    }
}

/// What became of a batch, to be given to those who wait for it.
struct Answers<O> {
    replies: Vec<oneshot::Sender<Answer<O>>>,
    result: Result<(Timestamp, Vec<O>), LedgerError>,
}

impl<O> Answers<O> {
    /// Gives each item its outcome, or all of them the error. Whoever does not wait any more is passed over.
    fn give(self) {
        match self.result {
            Ok((at, outcomes)) => {
                for (reply, outcome) in self.replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok((at, outcome)));
                }
            }
            Err(error) => {
                for reply in self.replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// What a batch leaves behind.
enum Done {
    Reserve(Answers<Outcome>),
    Advance(Answers<Advanced>),
}

impl Done {
    fn give(self) {
        match self {
            Self::Reserve(answers) => answers.give(),
            Self::Advance(answers) => answers.give(),
        }
    }
}

/// The task that does the work.
struct BatchLoop {
    shared: Arc<Shared>,
    _end: watch::Sender<()>,
}

/// A batch under way.
type InFlight = Pin<Box<dyn Future<Output = Done> + Send>>;

impl BatchLoop {
    async fn run(self) {
        let max_in_flight = self.shared.ledger.bounds().max_in_flight.max(1);
        let (mut in_flight, mut done) = (VecDeque::<InFlight>::with_capacity(max_in_flight), None);
        loop {
            let mut ends = false;
            while in_flight.len() < max_in_flight {
                match self.next() {
                    Next::Work(work) => in_flight.push_back(self.begin(work).await),
                    Next::Nothing => break,
                    Next::End => {
                        ends = true;
                        break;
                    }
                }
            }
            // Answers are given while the next batch is on its way; without one, now.
            done.take().into_iter().for_each(Done::give);
            let has_room = in_flight.len() < max_in_flight;
            match in_flight.front_mut() {
                None if ends => return,
                None => self.shared.work.notified().await,
                Some(first) => {
                    tokio::select! {
                        finished = first => {
                            in_flight.pop_front();
                            done = Some(finished);
                        }
                        () = self.shared.work.notified(), if has_room && !ends => {}
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.shared.queue();
        let work = queue.next();
        queue.is_idle = work.is_none();
        match work {
            Some(work) => Next::Work(work),
            None if queue.is_closed => Next::End,
            None => Next::Nothing,
        }
    }

    /// Hands a batch to the ledger: polled once, so that batches are begun in their order.
    async fn begin(&self, work: Work) -> InFlight {
        let mut batch: InFlight = Box::pin(execute(Arc::clone(&self.shared), work));
        let finished = poll_fn(|context| Poll::Ready(batch.as_mut().poll(context))).await;
        match finished {
            Poll::Ready(done) => Box::pin(std::future::ready(done)),
            Poll::Pending => batch,
        }
    }
}

/// Waits for the answers to a batch.
async fn execute(shared: Arc<Shared>, work: Work) -> Done {
    let Shared { ledger, lane, kill_switch, recent, metrics, .. } = &*shared;
    let begun = Instant::now();
    let done = match work {
        Work::Reserve(Batch { mut items, replies }) => {
            // Looked at here and not when a request comes, so that nothing that waits is let through.
            if kill_switch.is_on() {
                items.iter_mut().for_each(stop);
            }
            metrics.reserves.record(items.len() as u64);
            let result = ledger.reserve(*lane, None, items).await;
            let result = result.map(|result| (result.at, result.outcomes));
            if let Ok((_, outcomes)) = &result {
                note_buyers(recent, outcomes);
            }
            metrics.count(&metrics.reserved, &result, Outcome::metric_index);
            Done::Reserve(Answers { replies, result })
        }
        Work::Advance(Batch { items, replies }) => {
            metrics.advances.record(items.len() as u64);
            let result = ledger.advance(*lane, items).await;
            let result = result.map(|result| (result.at, result.outcomes));
            metrics.count(&metrics.advanced, &result, Advanced::metric_index);
            Done::Advance(Answers { replies, result })
        }
    };
    let round_trip = begun.elapsed();
    metrics.round_trips.record(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
    shared.queue().round_trip = round_trip;
    done
}

/// While all sales are stopped, a request finds the order that its key made before, and makes none.
fn stop(request: &mut Reserve) {
    if request.mode == ReserveMode::NewOrder {
        request.mode = ReserveMode::SalesStopped;
    }
}

/// Before anybody is told: who repeats a request that won must not be declined by a view of before.
fn note_buyers(recent: &RecentBuyers, outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Outcome::Reserved { order, .. } = outcome {
            recent.insert(order.key.user);
        }
    }
}

/// What the task has to do.
enum Next {
    Work(Work),
    Nothing,
    End,
}

impl Drop for BatchLoop {
    /// However the task ends, nobody waits for it in vain.
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        queue.reserves.clear();
        queue.advances.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;
    use crate::{
        domain::{
            ActivityId, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, OrderId, OrderKey, Quantity,
            SkuId, Strategy, Subjects, UserId, Window,
        },
        embedded::{EmbeddedLedger, EmbeddedOptions},
        ledger::{BatchId, LedgerRole, Position, Terms, Timing},
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
        let mut step = Box::pin(engine.call(move |_, _, _| {
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
    async fn steps_do_not_keep_requests_out() {
        let mut queue = Queue {
            reserves: Waiting::new(10, 1),
            advances: Waiting::new(10, 1),
            advanced_last: false,
            is_idle: false,
            is_closed: false,
            round_trip: Duration::ZERO,
        };
        for n in 1..=2 {
            assert!(queue.reserves.push(request(n), oneshot::channel().0));
            assert!(queue.advances.push(cancel(n), oneshot::channel().0));
        }
        let order: Vec<_> =
            std::iter::from_fn(|| queue.next()).map(|work| matches!(work, Work::Advance(_))).collect();
        assert_eq!(order, [true, false, true, false]);
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
        let mut failing = start(engine.call::<(), _>(|_, _, _| panic!("seeded")));
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
