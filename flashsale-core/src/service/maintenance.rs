//! Background jobs: view renewal, expiry, closing of payments, refunds and transfers.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::{
    LaneFront, Payments, Sales, ServiceError,
    refunds::{RefundError, Refunds, Taken},
    sales::settle_transfer,
};
use crate::{
    domain::SteadyTime,
    interruptible_sleep::pause,
    ledger::{Closing, Due, Lane, Ledger},
    queue::{InMemoryQueue, Job, NewJob, Queue, RetryPolicy, Topic, Verdict, Worker},
};

/// How often a view is renewed.
const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// The most orders and payments that one expiry step handles, so that buyers do not wait behind it.
const EXPIRE_AT_ONCE: usize = 256;

/// Expiry and closing jobs are never parked. As many payments are closed concurrently as one step
/// returns: with a provider that takes a second per call, thousands must not outlive their grace.
const NEVER_PARK: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: IDLE,
    longest: IDLE,
    lease: Duration::from_secs(30),
    at_once: EXPIRE_AT_ONCE,
};

/// The background jobs of a process. One process per lane is enough; duplicates are harmless.
///
/// Expiry uses an in-memory delay queue with one job per lane, ready at the lane's next deadline.
/// Deadlines themselves are in the ledger, so a restart loses nothing. Refunds use the given queue;
/// those that keep failing become dead letters there.
#[derive(Debug)]
pub struct Maintenance {
    sales: Arc<Sales>,
    deadlines: Arc<InMemoryQueue>,
    expiry: Worker,
    closing: Worker,
    refunds: Refunds,
}

impl Maintenance {
    /// Creates the jobs for these sales. Refunds go through `queue` and follow `retries`.
    pub fn new(sales: Arc<Sales>, payments: Payments, queue: Arc<dyn Queue>, retries: RetryPolicy) -> Self {
        let deadlines = Arc::new(InMemoryQueue::new(Arc::new(SteadyTime(Arc::clone(sales.clock())))));
        let delayed = Arc::clone(&deadlines) as Arc<dyn Queue>;
        let expiry = {
            let (sales, queue) = (Arc::clone(&sales), Arc::clone(&delayed));
            Worker::new(Arc::clone(&delayed), expiry(), NEVER_PARK, move |job| {
                let (sales, queue) = (Arc::clone(&sales), Arc::clone(&queue));
                async move { expire(&sales, &*queue, &job).await }
            })
        };
        let closing = {
            let payments = payments.clone();
            Worker::new(delayed, closing(), NEVER_PARK, move |job| {
                let payments = payments.clone();
                async move { close(&payments, &job).await }
            })
        };
        let refunds = Refunds::new(Arc::clone(&sales), payments, queue, retries);
        Self { sales, deadlines, expiry, closing, refunds }
    }

    /// The workers of expiry, closing and refunds, for monitoring.
    pub fn workers(&self) -> [&Worker; 3] {
        [&self.expiry, &self.closing, &self.refunds.worker]
    }

    /// The delay queue of expiry and closing, for monitoring.
    pub fn deadlines(&self) -> &dyn Queue {
        &*self.deadlines
    }

    /// Runs until `stop` becomes true, then finishes jobs in progress. Picks up sales opened later.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut jobs = JoinSet::new();
        for which in 0..self.workers().len() {
            let (maintenance, stop) = (Arc::clone(&self), stop.clone());
            jobs.spawn(async move { maintenance.workers()[which].run(stop).await });
        }
        let mut known = Vec::new();
        while !*stop.borrow() {
            for sale in self.sales.all() {
                for front in sale.fronts() {
                    if !known.contains(&front.lane) {
                        known.push(front.lane);
                        self.watch(front.lane).await;
                        jobs.spawn(Arc::clone(&self).renew(Arc::clone(front), stop.clone()));
                        jobs.spawn(Arc::clone(&self).take_refunds(front.lane, stop.clone()));
                        jobs.spawn(Arc::clone(&self).settle_transfer(front.lane, stop.clone()));
                    }
                }
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
        jobs.join_all().await;
    }

    /// Expires everything that is due in all lanes, and waits until payments are closed. For
    /// simulations and tests with an injected clock.
    ///
    /// # Errors
    /// Those of the ledger; a repeated call does what is left.
    pub async fn expire_once(&self) -> Result<(), ServiceError> {
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            while !is_done(&expire_lane(&**self.sales.ledger(), &*self.deadlines, front.lane).await?) {}
        }
        if let Err(error) = self.closing.work_once().await {
            tracing::warn!(%error, "payments not closed yet; the ledger will return them again");
        }
        Ok(())
    }

    /// Queues every due refund, executes those that are ready, and delivers units in transit, in
    /// all lanes. For simulations and tests with an injected clock.
    ///
    /// # Errors
    /// Those of the ledger or the queue; stops at the first failure.
    pub async fn settle_once(&self) -> Result<(), RefundError> {
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            self.refunds.take_all(front.lane).await?;
            self.deliver_all(front.lane).await?;
        }
        self.refunds.worker.work_once().await?;
        Ok(())
    }

    async fn renew(self: Arc<Self>, front: Arc<LaneFront>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.sales.renew(&front).await {
                tracing::debug!(lane = ?front.lane, %error, "failed to renew the view of a lane");
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
    }

    /// Starts the expiry job of a lane.
    async fn watch(&self, lane: Lane) {
        let id = format!("lane/{}/{}", lane.activity, lane.bucket);
        let job = NewJob::now(&expiry(), &id, &lane).expect("a lane is small");
        self.deadlines.put(vec![job]).await.expect("an in-memory queue takes one job");
        self.expiry.wake();
    }

    /// Queues the due refunds of a lane, again and again.
    async fn take_refunds(self: Arc<Self>, lane: Lane, mut stop: watch::Receiver<bool>) {
        let mut after = None;
        while !*stop.borrow() {
            let wait = match self.refunds.take(lane, after).await {
                Ok(Taken { after: next, new }) => {
                    after = next;
                    // Reads slowly through those that are in the queue already.
                    if new > 0 && after.is_some() { Duration::ZERO } else { IDLE }
                }
                Err(error) => {
                    tracing::warn!(?lane, %error, "due refunds are not in the queue yet");
                    IDLE
                }
            };
            pause(&mut stop, wait).await;
        }
    }

    /// Delivers units in transit to their destination lanes.
    async fn settle_transfer(self: Arc<Self>, lane: Lane, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.deliver_all(lane).await {
                tracing::warn!(?lane, %error, "units in transit could not be delivered yet");
            }
            pause(&mut stop, IDLE).await;
        }
    }

    async fn deliver_all(&self, lane: Lane) -> Result<(), ServiceError> {
        let ledger = self.sales.ledger();
        for transfer in ledger.transfers(lane).await? {
            settle_transfer(ledger, transfer).await?;
        }
        Ok(())
    }
}

fn expiry() -> Topic {
    "expiry".parse().expect("a valid topic")
}

fn closing() -> Topic {
    "closing".parse().expect("a valid topic")
}

/// Expires what is due in the job's lane, and postpones the job until something is due again.
async fn expire(sales: &Sales, queue: &dyn Queue, job: &Job) -> Verdict {
    let lane: Lane = job.content().expect("the job contains a lane");
    let wait = match expire_lane(&**sales.ledger(), queue, lane).await {
        Ok(due) if !is_done(&due) => Duration::ZERO,
        // At most IDLE: an order placed meanwhile may have an earlier deadline.
        Ok(due) => due.next.map_or(IDLE, |next| next.since(sales.clock().now()).min(IDLE)),
        Err(error) => {
            tracing::warn!(?lane, %error, "overdue orders could not be expired");
            IDLE
        }
    };
    Verdict::Postpone { wait }
}

/// Expires what is due in a lane, and queues overdue payments to be closed separately: a provider
/// that does not answer must not keep other units off sale.
async fn expire_lane(ledger: &dyn Ledger, queue: &dyn Queue, lane: Lane) -> Result<Due, ServiceError> {
    let due = ledger.expire_due(lane, EXPIRE_AT_ONCE).await?;
    let closing: Vec<_> = due.closing.iter().map(closing_job).collect();
    if let Err(error) = queue.put(closing).await {
        tracing::warn!(?lane, %error, "payments not closed yet; the ledger will return them again");
    }
    Ok(due)
}

fn closing_job(closing: &Closing) -> NewJob {
    NewJob::now(&self::closing(), &format!("payment/{}", closing.payment), closing)
        .expect("a payment is small")
}

/// Closes a payment at its provider. On failure the ledger returns it again, until its grace ends.
async fn close(payments: &Payments, job: &Job) -> Verdict {
    let Closing { order, payment, provider, .. } = job.content().expect("the job contains a closing");
    match payments.close_payment(order, payment, &provider).await {
        // The breaker has already logged that the provider is not called.
        Ok(_) | Err(ServiceError::ProviderUnavailable { .. }) => {}
        Err(error) => tracing::warn!(%payment, %error, "a payment could not be closed; it will be retried"),
    }
    Verdict::Done
}

/// Whether nothing more is due in the lane.
fn is_done(due: &Due) -> bool {
    due.expired.len() + due.closing.len() < EXPIRE_AT_ONCE
}
