//! Notifications about orders for other systems of the shop.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use super::reader::{self, Outbox};
use crate::{
    circuit_breaker::{Breaker, BreakerOptions, Rejected},
    domain::{Name, Order, OrderKey, PaymentStatus, RefundOrder, RefundStatus, ReversalKind, Timestamp},
    interruptible_sleep::pause,
    ledger::{Entry, Event, Lane, LedgerCalls as _, LedgerError, OrderChange, PaymentRef},
    queue::{Job, MAX_BATCH, NewJob, Queue, QueueError, RetryPolicy, Topic, Verdict, Worker},
    service::Sales,
};

/// Another system that receives order events: a mailer, a warehouse, a data lake.
///
/// Each notification is delivered *at least* once, possibly concurrently and out of order.
/// Receivers recognize a repetition by [`Notification::id`], and stale content by the order's
/// [`revision`](Order::revision).
#[async_trait]
pub trait EventSink: Send + Sync + Debug {
    /// Delivers a notification. Once this returns `Ok` it is not sent again, so it must be stored.
    ///
    /// A call times out after 10 s, which counts as a failure. If the future is dropped, the
    /// notification is delivered again.
    ///
    /// # Errors
    /// [`SinkError`], which says whether to deliver again.
    async fn deliver(&self, notification: &Notification) -> Result<(), SinkError>;
}

/// A notification was not accepted, or its fate is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The receiver does not answer or cannot accept it now. It is delivered again.
    #[error("{0}")]
    Unavailable(String),
    /// The receiver will never accept it. It becomes a dead letter, for an operator to look at.
    #[error("{0}")]
    Refused(String),
}

/// An event in the life of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Identifies the event in all of its deliveries: activity, bucket, epoch and sequence in the
    /// lane's outbox, and time in milliseconds, such as `7.0.0.1234.1795737600000`. A restored
    /// ledger reuses sequence numbers after its backup; the time keeps its events distinct.
    pub id: Name,
    /// What happened.
    pub kind: NotificationKind,
    /// When it happened, by the ledger's clock.
    pub at: Timestamp,
    /// The order in its state at delivery, which may be later than the event.
    pub order: Order,
    /// The reference of its payment, if it has one.
    pub payment: Option<PaymentRef>,
}

/// The kind of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// The order was placed.
    Placed,
    /// The truth refused the order.
    Refused,
    /// A payment was opened.
    PaymentOpened,
    /// A payment failed.
    PaymentFailed,
    /// A payment was closed.
    PaymentClosed,
    /// The order was paid, or placed and paid at once in place of an expired one.
    Paid,
    /// A part of the amount was paid.
    PartPaid,
    /// The order was cancelled by its buyer or an operator.
    Cancelled,
    /// The order was not paid in time.
    Expired,
    /// A refund is due.
    RefundDue,
    /// A refund was made.
    RefundDone,
    /// A refund failed for good.
    RefundFailed,
    /// The provider sent money back by itself.
    RefundedByProvider,
    /// The buyer disputes the payment.
    Disputed,
    /// A dispute ended, and the money stays.
    DisputeWon,
    /// A dispute ended, and the money went back.
    DisputeLost,
}

impl NotificationKind {
    /// The serialized name, such as `payment_opened`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Refused => "refused",
            Self::PaymentOpened => "payment_opened",
            Self::PaymentFailed => "payment_failed",
            Self::PaymentClosed => "payment_closed",
            Self::Paid => "paid",
            Self::PartPaid => "part_paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::RefundDue => "refund_due",
            Self::RefundDone => "refund_done",
            Self::RefundFailed => "refund_failed",
            Self::RefundedByProvider => "refunded_by_provider",
            Self::Disputed => "disputed",
            Self::DisputeWon => "dispute_won",
            Self::DisputeLost => "dispute_lost",
        }
    }

    fn of(change: &OrderChange) -> Option<Self> {
        Some(match change {
            OrderChange::Placed(_) => Self::Placed,
            OrderChange::Refused(_) => Self::Refused,
            OrderChange::PaymentOpened { .. } => Self::PaymentOpened,
            OrderChange::PaymentEnded { status: PaymentStatus::Failed, .. } => Self::PaymentFailed,
            OrderChange::PaymentEnded { .. } => Self::PaymentClosed,
            OrderChange::Paid(_) | OrderChange::PlacedFree(_) | OrderChange::Retaken { .. } => Self::Paid,
            OrderChange::PartPaid(_) => Self::PartPaid,
            OrderChange::RefundDue { .. } | OrderChange::Refunded { .. } => Self::RefundDue,
            // Only units return.
            OrderChange::RefundOrdered { refund: RefundOrder { amount: Some(0), .. }, .. } => return None,
            OrderChange::RefundOrdered { .. } => Self::RefundDue,
            OrderChange::Reversed(report) => match report.kind {
                ReversalKind::Refunded => Self::RefundedByProvider,
                ReversalKind::Disputed => Self::Disputed,
                ReversalKind::DisputeWon => Self::DisputeWon,
                ReversalKind::DisputeLost => Self::DisputeLost,
            },
            OrderChange::RefundSettled { status: RefundStatus::Done, .. }
            | OrderChange::RefundEnded { status: RefundStatus::Done, .. } => Self::RefundDone,
            OrderChange::RefundSettled { .. } | OrderChange::RefundEnded { .. } => Self::RefundFailed,
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
    /// The queue did not take them.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Forwards order events from the outboxes of the ledger to an [`EventSink`].
///
/// A [`Breaker`] protects the sink: after too many failures, deliveries are postponed for a while.
///
/// An event is queued before it is acknowledged to the ledger, so one that cannot be delivered
/// blocks no other. The queue must survive a crash. A job is settled after delivery, so a crash in
/// between causes a second delivery.
#[derive(Debug)]
pub struct Notifier {
    sales: Arc<Sales>,
    queue: Arc<dyn Queue>,
    outbox: Outbox,
    worker: Worker,
    breaker: Arc<Breaker>,
}

/// The content of a job. The order is read at delivery.
#[derive(Debug, Serialize, Deserialize)]
struct Happened {
    kind: NotificationKind,
    at: Timestamp,
    order: OrderKey,
}

/// The timeout of one delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest random delay on top of the breaker's, so that postponed notifications spread out.
const POSTPONE_JITTER: Duration = Duration::from_secs(30);

fn topic() -> Topic {
    "notifications".parse().expect("a valid topic")
}

impl Notifier {
    /// The consumer name in the outboxes.
    pub const CONSUMER: &str = "notifications";

    /// Creates a notifier that delivers order events of these sales to `sink`, with `retries`.
    pub fn new(
        sales: Arc<Sales>,
        queue: Arc<dyn Queue>,
        sink: Arc<dyn EventSink>,
        retries: RetryPolicy,
    ) -> Self {
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

    /// Registers the notifier with the ledger, which keeps events for it from now on.
    ///
    /// To stop notifications for good, [retire](crate::ledger::LedgerCalls::retire) [`Self::CONSUMER`];
    /// otherwise the outbox keeps growing.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn register(&self) -> Result<(), LedgerError> {
        self.outbox.register().await
    }

    /// The breaker in front of the sink, named `notifications`.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The delivery worker, for monitoring.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Runs until `stop` becomes true. Picks up sales opened later.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let queueing = async {
            let (mut stop, mut rounds) = (stop.clone(), self.outbox.rounds());
            while !*stop.borrow() {
                let mut failure = None;
                for lane in self.outbox.round(&mut rounds) {
                    let queued = self.queue_lane(lane).await;
                    rounds.read(lane, queued.as_ref().map_or(true, |more| *more));
                    failure = queued.err().or(failure);
                }
                if let Some(error) = failure {
                    tracing::warn!(%error, "order events are not in the queue yet");
                }
                pause(&mut stop, reader::EVERY).await;
            }
        };
        tokio::join!(queueing, self.worker.run(stop.clone()));
    }

    /// Queues and delivers what is ready. For simulations and tests with an injected clock.
    ///
    /// # Errors
    /// A lane's failure, after all lanes were tried, or the queue's.
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

    /// Queues a lane's new events. Returns whether it had any.
    async fn queue_lane(&self, lane: Lane) -> Result<bool, NotifyError> {
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

/// Builds the job of an event; `None` if no notification is due.
fn job(lane: Lane, entry: &Entry) -> Option<NewJob> {
    let Event::Order { id, user, change } = &entry.event else { return None };
    let kind = NotificationKind::of(change)?;
    let happened =
        Happened { kind, at: entry.at, order: OrderKey { activity: lane.activity, user: *user, id: *id } };
    let (epoch, sequence) = (entry.position.epoch.0, entry.position.sequence);
    let id = format!("{}.{}.{epoch}.{sequence}.{}", lane.activity, lane.bucket, entry.at.as_millis());
    Some(NewJob::now(&topic(), &id, &happened).expect("the id is short and the content small"))
}

async fn deliver(sales: &Sales, sink: &dyn EventSink, breaker: &Breaker, job: &Job) -> Verdict {
    let Happened { kind, at, order } = match job.content() {
        Ok(happened) => happened,
        Err(error) => return Verdict::Park { error: error.to_string() },
    };
    let retry = |error: String| Verdict::Retry { wait: Duration::ZERO, error };
    let order = match sales.ledger().order(order).await {
        Ok(Some(order)) => order,
        Ok(None) => return Verdict::Park { error: format!("order {} does not exist", order.id) },
        Err(error) => return retry(error.to_string()),
    };
    let payment = match sales.payment_of(&order).await {
        Ok(payment) => payment,
        Err(error) => return retry(error.to_string()),
    };
    hand_over(sink, breaker, &Notification { id: job.id.clone(), kind, at, order, payment }).await
}

/// Delivers a notification, unless the breaker is open.
async fn hand_over(sink: &dyn EventSink, breaker: &Breaker, notification: &Notification) -> Verdict {
    let permit = match breaker.enter() {
        Ok(permit) => permit,
        // The sink was not called, so this does not count as an attempt.
        Err(Rejected { retry_after }) => {
            return Verdict::Postpone { wait: retry_after + POSTPONE_JITTER.mul_f64(fastrand::f64()) };
        }
    };
    let error = match timeout(DELIVERY_TIMEOUT, sink.deliver(notification)).await {
        Ok(Ok(())) => {
            permit.succeeded();
            return Verdict::Done;
        }
        Ok(Err(SinkError::Refused(error))) => {
            permit.succeeded();
            return Verdict::Park { error };
        }
        Ok(Err(SinkError::Unavailable(error))) => error,
        // Not left to the job's lease: a breaker does not count dropped permits.
        Err(_) => format!("no answer within {} s", DELIVERY_TIMEOUT.as_secs()),
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
            units_returned: 0,
            reversals: Vec::new(),
            refund_orders: Vec::new(),
            revision: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_never_answers_opens_its_breaker() {
        let options = BreakerOptions::new(4, 2, Duration::from_secs(20), 1).unwrap();
        let breaker =
            Breaker::new("silent", options, Arc::new(ManualClock::new(Timestamp::from_millis(1_000))));
        let id = "7.0.0.1.1000".parse().unwrap();
        let (order, at) = (order(), Timestamp::EPOCH);
        let notification = Notification { id, kind: NotificationKind::Placed, at, order, payment: None };
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
