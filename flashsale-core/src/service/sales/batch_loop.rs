//! The task that takes batches from the queue of a lane, has the ledger decide them, and answers.

use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    batch_queue::{Answer, BatchQueue, NextBatch, QueuedBatch},
    batcher_metrics::{BatcherMetrics, count_outcomes},
    kill_switch::KillSwitchFlag,
    lane_changes::LaneChanges,
    recent_buyers::RecentBuyers,
};
use crate::{
    domain::Timestamp,
    ledger::{Advanced, Lane, Ledger, LedgerCalls as _, LedgerError, Outcome, Reserve, ReserveMode},
    panic_message::panic_message,
};

/// What a batcher and its loop share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) lane: Lane,
    pub(super) kill_switch: Arc<KillSwitchFlag>,
    pub(super) changes: Arc<LaneChanges>,
    pub(super) recent: RecentBuyers,
    pub(super) metrics: BatcherMetrics,
    pub(super) queue: Mutex<BatchQueue>,
    /// Wakes the loop: the queue was empty and is not any more, or it was closed.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, BatchQueue> {
        // No panic under the lock leaves the queue inconsistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.queue().is_closed = true;
        self.wake.notify_one();
    }
}

/// The loop of one lane.
pub(super) struct BatchLoop {
    shared: Arc<Shared>,
    /// Dropped with the loop, which tells [`Batcher::drain`](super::Batcher::drain).
    _ended: watch::Sender<()>,
}

/// A batch that the ledger decides.
type InFlight = Pin<Box<dyn Future<Output = Finished> + Send>>;

impl BatchLoop {
    pub(super) fn new(shared: Arc<Shared>, ended: watch::Sender<()>) -> Self {
        Self { shared, _ended: ended }
    }

    /// Keeps as many batches in flight as the ledger wants, until the queue is closed and empty.
    pub(super) async fn run(self) {
        let max_in_flight = self.shared.ledger.bounds().max_in_flight.max(1);
        let mut in_flight = VecDeque::<InFlight>::with_capacity(max_in_flight);
        let mut finished = None::<Finished>;
        loop {
            while in_flight.len() < max_in_flight
                && let Some(batch) = self.next_batch()
            {
                in_flight.push_back(self.begin(batch).await);
            }
            // Answer only now: the ledger works on the next batch meanwhile.
            finished.take().into_iter().for_each(Finished::answer);
            let has_room = in_flight.len() < max_in_flight;
            let Some(first) = in_flight.front_mut() else {
                if self.is_over() {
                    return;
                }
                self.shared.wake.notified().await;
                continue;
            };
            tokio::select! {
                batch = first => {
                    in_flight.pop_front();
                    finished = Some(batch);
                }
                () = self.shared.wake.notified(), if has_room => {}
            }
        }
    }

    fn next_batch(&self) -> Option<NextBatch> {
        let mut queue = self.shared.queue();
        let batch = queue.pop();
        queue.is_idle = batch.is_none();
        batch
    }

    fn is_over(&self) -> bool {
        let queue = self.shared.queue();
        queue.is_closed && queue.len() == 0
    }

    /// Hands a batch to the ledger. It is polled once, so the ledger gets batches in their order.
    async fn begin(&self, batch: NextBatch) -> InFlight {
        let mut in_flight: InFlight = Box::pin(execute(Arc::clone(&self.shared), batch));
        match poll_fn(|context| Poll::Ready(in_flight.as_mut().poll(context))).await {
            Poll::Ready(finished) => Box::pin(std::future::ready(finished)),
            Poll::Pending => in_flight,
        }
    }
}

impl Drop for BatchLoop {
    /// However the loop ends, no caller waits for ever.
    fn drop(&mut self) {
        self.shared.queue().abandon();
    }
}

/// Has the ledger decide a batch.
async fn execute(shared: Arc<Shared>, batch: NextBatch) -> Finished {
    let Shared { ledger, lane, kill_switch, changes, recent, metrics, .. } = &*shared;
    let begun = Instant::now();
    let finished = match batch {
        NextBatch::Reserve(QueuedBatch { mut items, replies }) => {
            // Checked here, not when a request arrives: what waits must not slip through.
            if kill_switch.is_on() {
                items.iter_mut().for_each(stop);
            }
            metrics.reserves.record(items.len() as u64);
            let decided = catch_panic(*lane, async { ledger.reserve(*lane, None, items).await }).await;
            let result = decided.map(|result| (result.at, result.outcomes));
            if let Ok((_, outcomes)) = &result {
                note_buyers(recent, outcomes);
                count_outcomes(&metrics.reserved, outcomes, Outcome::metric_index);
            }
            Finished::Reserve(Answers { replies, result })
        }
        NextBatch::Advance(QueuedBatch { items, replies }) => {
            metrics.advances.record(items.len() as u64);
            let decided = catch_panic(*lane, async { ledger.advance(*lane, items).await }).await;
            let result = decided.map(|result| (result.at, result.outcomes));
            if let Ok((_, outcomes)) = &result {
                count_outcomes(&metrics.advanced, outcomes, Advanced::metric_index);
            }
            Finished::Advance(Answers { replies, result })
        }
    };
    if finished.has_failed() {
        metrics.failed.fetch_add(1, Ordering::Relaxed);
    }
    if finished.may_have_changed() {
        changes.note(*lane);
    }
    let round_trip = begun.elapsed();
    metrics.round_trips.record(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
    shared.queue().round_trip = round_trip;
    finished
}

/// Turns a panic of the ledger into an error of this batch, so that it does not end the loop of the
/// lane. What the ledger did before is unknown.
async fn catch_panic<T>(
    lane: Lane,
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    let mut call = pin!(call);
    let poll = |context: &mut Context<'_>| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))).unwrap_or_else(|panic| {
            let reason = panic_message(&*panic);
            tracing::error!(?lane, reason, "a bug: the ledger panicked, and a batch has no known outcome");
            Poll::Ready(Err(LedgerError::Unknown(format!("the ledger panicked: {reason}").into())))
        })
    };
    poll_fn(poll).await
}

/// While all sales are stopped, a request finds the order that its key made before, and makes none.
fn stop(request: &mut Reserve) {
    if request.mode == ReserveMode::NewOrder {
        request.mode = ReserveMode::SalesStopped;
    }
}

/// Remembers who won, before anyone is answered: an older view must not decline the repeat of a
/// request that won.
fn note_buyers(recent: &RecentBuyers, outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Outcome::Reserved { order, .. } = outcome {
            recent.insert(order.key.user);
        }
    }
}

/// A batch that the ledger has decided, to be answered.
enum Finished {
    Reserve(Answers<Outcome>),
    Advance(Answers<Advanced>),
}

struct Answers<O> {
    replies: Vec<oneshot::Sender<Answer<O>>>,
    result: Result<(Timestamp, Vec<O>), LedgerError>,
}

impl Finished {
    fn has_failed(&self) -> bool {
        match self {
            Self::Reserve(answers) => answers.result.is_err(),
            Self::Advance(answers) => answers.result.is_err(),
        }
    }

    /// Whether the lane may have changed. After an error that is unknown.
    fn may_have_changed(&self) -> bool {
        match self {
            Self::Reserve(Answers { result: Ok((_, outcomes)), .. }) => {
                outcomes.iter().any(|outcome| matches!(outcome, Outcome::Reserved { .. }))
            }
            Self::Advance(Answers { result: Ok((_, outcomes)), .. }) => outcomes.iter().any(|outcome| {
                matches!(outcome, Advanced::Done(_) | Advanced::RefundDue(..) | Advanced::Retaken(_))
            }),
            _ => true,
        }
    }

    fn answer(self) {
        match self {
            Self::Reserve(answers) => answers.send(),
            Self::Advance(answers) => answers.send(),
        }
    }
}

impl<O> Answers<O> {
    /// Sends each item its outcome, or all of them the error. Callers who have left are skipped.
    fn send(self) {
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
