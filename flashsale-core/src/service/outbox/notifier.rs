//! Notifications: what happened to orders, for other systems of the shop.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use super::reader::{self, Outbox};
use crate::{
    circuit_breaker::{Breaker, BreakerOptions, Rejected},
    domain::{Name, Order, OrderKey, PaymentStatus, RefundStatus, Timestamp},
    interruptible_sleep::pause,
    ledger::{Entry, Event, Lane, LedgerError, OrderChange},
    queue::{Job, MAX_BATCH, NewJob, Queue, QueueError, Retries, Topic, Verdict, Worker},
    service::Sales,
};

/// Another system that wants to know what happens to orders: a mailer, a warehouse, a data lake.
///
/// Each notification is delivered *at least* once, several at a time, and not always in order. The receiver knows a repetition by
/// [`Notification::id`], and a late one by the [`revision`](Order::revision) of its order.
#[async_trait]
pub trait EventSink: Send + Sync + Debug {
    /// Hands over a notification. It is delivered when this answers, so it has to be kept by then.
    ///
    /// A call that takes longer than 10 s is given up, as a failure. Whenever its future is dropped, nobody knows what became of
    /// the notification, and it comes again.
    ///
    /// # Errors
    /// [`SinkError`], which says whether it comes again.
    async fn deliver(&self, notification: &Notification) -> Result<(), SinkError>;
}

/// A notification was not taken, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The receiver does not answer or cannot take it now; it comes again.
    #[error("{0}")]
    Unavailable(String),
    /// The receiver will never take it: it is parked as a dead letter, for somebody to look at.
    #[error("{0}")]
    Refused(String),
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The same for the same event, however often it is delivered: activity, bucket, epoch and sequence in the lane's outbox,
    /// and the time in milliseconds, such as `7.0.0.1234.1795737600000`. A ledger that was restored counts on from its backup;
    /// the time tells its events from those that are gone.
    pub id: Name,
    /// What happened.
    pub kind: NotificationKind,
    /// When it happened, on the clock that decided it.
    pub at: Timestamp,
    /// The order as it stands when this is delivered, which may be later.
    pub order: Order,
}

/// Kinds of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// It was placed.
    Placed,
    /// The truth did not take it.
    Refused,
    /// A payment was opened for it.
    PaymentOpened,
    /// Its payment failed.
    PaymentFailed,
    /// Its payment was closed.
    PaymentClosed,
    /// It was paid; one that was made in place of an expired order too.
    Paid,
    /// It was cancelled, by its buyer or an operator.
    Cancelled,
    /// It was not paid in time.
    Expired,
    /// Money has to go back.
    RefundDue,
    /// Money went back.
    RefundDone,
    /// Money could not be sent back.
    RefundFailed,
}

impl NotificationKind {
    /// The word of it, such as `payment_opened`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Refused => "refused",
            Self::PaymentOpened => "payment_opened",
            Self::PaymentFailed => "payment_failed",
            Self::PaymentClosed => "payment_closed",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::RefundDue => "refund_due",
            Self::RefundDone => "refund_done",
            Self::RefundFailed => "refund_failed",
        }
    }

    fn of(change: &OrderChange) -> Option<Self> {
        Some(match change {
            OrderChange::Placed(_) => Self::Placed,
            OrderChange::Refused(_) => Self::Refused,
            OrderChange::PaymentOpened { .. } => Self::PaymentOpened,
            OrderChange::PaymentEnded { status: PaymentStatus::Failed, .. } => Self::PaymentFailed,
            OrderChange::PaymentEnded { .. } => Self::PaymentClosed,
            OrderChange::Paid(_) | OrderChange::Retaken { .. } => Self::Paid,
            OrderChange::RefundDue { .. } | OrderChange::Refunded { .. } => Self::RefundDue,
            OrderChange::RefundSettled { status: RefundStatus::Done, .. } => Self::RefundDone,
            OrderChange::RefundSettled { .. } => Self::RefundFailed,
            OrderChange::Cancelled | OrderChange::CancelledBy(_) => Self::Cancelled,
            OrderChange::Expired => Self::Expired,
            OrderChange::ClosingClaimed { .. } => return None,
        })
    }
}

/// Why events are not in the queue yet. They stay in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The queue takes nothing.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Brings what happens to orders from the outboxes of the ledger to an [`EventSink`].
///
/// A sink that fails too often is left alone for a while by a [`Breaker`], and what waits for it is not tried meanwhile.
///
/// An event goes into a queue before it is acknowledged to the ledger, so that one that cannot be delivered holds up no other;
/// the queue has to be one that survives a crash. What is delivered is settled afterwards, so a crash in between delivers again.
#[derive(Debug)]
pub struct Notifier {
    sales: Arc<Sales>,
    queue: Arc<dyn Queue>,
    outbox: Outbox,
    worker: Worker,
    breaker: Arc<Breaker>,
}

/// What a job says; the order is read when it is delivered.
#[derive(Debug, Serialize, Deserialize)]
struct Happened {
    kind: NotificationKind,
    at: Timestamp,
    order: OrderKey,
}

/// How long a sink may take for one notification.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than its breaker a notification leaves its sink alone, at most.
const LEFT_ALONE: Duration = Duration::from_secs(30);

fn topic() -> Topic {
    "notifications".parse().expect("it is a topic")
}

impl Notifier {
    /// The name of the outboxes' consumer.
    pub const CONSUMER: &str = "notifications";

    /// Delivers what happens in these sales to `sink`, and tries again as `retries` say.
    pub fn new(sales: Arc<Sales>, queue: Arc<dyn Queue>, sink: Arc<dyn EventSink>, retries: Retries) -> Self {
        let outbox = Outbox::new(Arc::clone(&sales), Self::CONSUMER);
        let clock = Arc::clone(sales.clock());
        let breaker = Arc::new(Breaker::new("notifications", BreakerOptions::default(), clock));
        let (read, guarded) = (Arc::clone(&sales), Arc::clone(&breaker));
        let worker = Worker::new(Arc::clone(&queue), topic(), retries, move |job: Job| {
            let (sales, sink, breaker) = (Arc::clone(&read), Arc::clone(&sink), Arc::clone(&guarded));
            async move { deliver(&sales, &*sink, &breaker, &job).await }
        });
        Self { sales, queue, outbox, worker, breaker }
    }

    /// Makes it known to the ledger: what happens from here on is kept for it.
    ///
    /// Who does not want notifications any more has to [retire](crate::ledger::Ledger::retire) [`Self::CONSUMER`], since
    /// the outbox keeps what was not read.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn register(&self) -> Result<(), LedgerError> {
        self.outbox.register().await
    }

    /// What stands in front of the sink; its name is `notifications`.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Who delivers, for whoever shows what it does.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Works until `stop` becomes true, for sales that are opened later too.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let queueing = async {
            let mut stop = stop.clone();
            while !*stop.borrow() {
                if let Err(error) = self.queue_all().await {
                    tracing::warn!(%error, "what happened to orders is not in the queue yet");
                }
                pause(&mut stop, reader::EVERY).await;
            }
        };
        tokio::join!(queueing, self.worker.run(stop.clone()));
    }

    /// Queues everything that is new in all lanes, and delivers what is ready: for simulations and tests that move an
    /// injected clock.
    ///
    /// # Errors
    /// The first failure, after all lanes were tried.
    pub async fn notify_once(&self) -> Result<(), NotifyError> {
        let queued = self.queue_all().await;
        self.worker.work_once().await?;
        queued
    }

    async fn queue_all(&self) -> Result<(), NotifyError> {
        let mut result = Ok(());
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            if let Err(error) = self.queue_lane(front.lane).await {
                result = Err(error);
            }
        }
        result
    }

    async fn queue_lane(&self, lane: Lane) -> Result<(), NotifyError> {
        let mut reading = self.outbox.read(lane);
        while let Some(entries) = reading.next().await? {
            let jobs: Vec<_> = entries.iter().filter_map(|entry| job(lane, entry)).collect();
            for jobs in jobs.chunks(MAX_BATCH) {
                self.queue.put(jobs.to_vec()).await?;
                self.worker.wake();
            }
        }
        Ok(reading.ack().await?)
    }
}

/// The job of an event; `None` for what is no news about an order.
fn job(lane: Lane, entry: &Entry) -> Option<NewJob> {
    let Event::Order { id, user, change } = &entry.event else { return None };
    let kind = NotificationKind::of(change)?;
    let happened =
        Happened { kind, at: entry.at, order: OrderKey { activity: lane.activity, user: *user, id: *id } };
    let (epoch, sequence) = (entry.position.epoch.0, entry.position.sequence);
    let id = format!("{}.{}.{epoch}.{sequence}.{}", lane.activity, lane.bucket, entry.at.as_millis());
    Some(NewJob::now(&topic(), &id, &happened).expect("its id is short, and its content small"))
}

async fn deliver(sales: &Sales, sink: &dyn EventSink, breaker: &Breaker, job: &Job) -> Verdict {
    let Happened { kind, at, order } = match job.content() {
        Ok(happened) => happened,
        Err(error) => return Verdict::Park { error: error.to_string() },
    };
    let retry = |error: String| Verdict::Retry { wait: Duration::ZERO, error };
    let order = match sales.ledger().order(order).await {
        Ok(Some(order)) => order,
        Ok(None) => return Verdict::Park { error: format!("the order {} is not there", order.id) },
        Err(error) => return retry(error.to_string()),
    };
    hand_over(sink, breaker, &Notification { id: job.id.clone(), kind, at, order }).await
}

/// Brings a notification to a sink, unless that is left alone.
async fn hand_over(sink: &dyn EventSink, breaker: &Breaker, notification: &Notification) -> Verdict {
    let permit = match breaker.enter() {
        Ok(permit) => permit,
        // Nobody was asked: that was no attempt. Those that wait do not come all at once afterwards.
        Err(Rejected { retry_after }) => {
            return Verdict::Postpone { wait: retry_after + LEFT_ALONE.mul_f64(fastrand::f64()) };
        }
    };
    let error = match timeout(PATIENCE, sink.deliver(notification)).await {
        Ok(Ok(())) => {
            permit.succeeded();
            return Verdict::Done;
        }
        Ok(Err(SinkError::Refused(error))) => {
            permit.succeeded();
            return Verdict::Park { error };
        }
        Ok(Err(SinkError::Unavailable(error))) => error,
        // Said here, and not by the end of the lease: a breaker does not count what was dropped.
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    permit.failed();
    Verdict::Retry { wait: Duration::ZERO, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        circuit_breaker::BreakerState,
        domain::{ManualClock, OrderStatus, Quantity, Subjects},
    };

    /// A sink that never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl EventSink for Silent {
        async fn deliver(&self, _: &Notification) -> Result<(), SinkError> {
            std::future::pending().await
        }
    }

    fn order() -> Order {
        let (activity, user, id) = (7.try_into().unwrap(), 8.try_into().unwrap(), 9.try_into().unwrap());
        Order {
            key: OrderKey { activity, user, id },
            sku: 11.try_into().unwrap(),
            quantity: Quantity::ONE,
            amount: crate::domain::Money::new(9_900, "CNY".parse().unwrap()).unwrap(),
            status: OrderStatus::Pending,
            persisted: true,
            idempotency: None,
            subjects: Subjects::default(),
            placed_at: Timestamp::EPOCH,
            deadline: None,
            payments: Vec::new(),
            receipts: Vec::new(),
            replaces: None,
            replaced_by: None,
            units_returned: false,
            revision: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_never_answers_opens_its_breaker() {
        let options = BreakerOptions::new(4, 2, Duration::from_secs(20), 1).unwrap();
        let breaker =
            Breaker::new("silent", options, Arc::new(ManualClock::new(Timestamp::from_millis(1_000))));
        let id = "7.0.0.1.1000".parse().unwrap();
        let notification =
            Notification { id, kind: NotificationKind::Placed, at: Timestamp::EPOCH, order: order() };
        for _ in 0..2 {
            let verdict = hand_over(&Silent, &breaker, &notification).await;
            assert!(
                matches!(&verdict, Verdict::Retry { error, .. } if error == "no answer within 10 s"),
                "{verdict:?}"
            );
        }
        assert_eq!(breaker.read().state, BreakerState::Open);
        let verdict = hand_over(&Silent, &breaker, &notification).await;
        assert!(
            matches!(verdict, Verdict::Postpone { wait } if wait >= Duration::from_secs(20)),
            "{verdict:?}"
        );
    }
}
