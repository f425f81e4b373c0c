//! Upkeep: what nobody asks for. Views, expiry, closing of payments, refunds, transfers.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::{
    LaneFront, Payments, Sales, ServiceError,
    refunds::{RefundError, Refunds, Taken},
    sales::settle_transfer,
};
use crate::{
    interruptible_sleep::pause,
    ledger::{Closing, Due, Lane, Ledger},
    queue::{InMemoryQueue, Job, NewJob, Queue, Retries, Topic, Verdict, Worker},
};

/// How often a view is read again.
const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How long nothing is looked at when nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// Orders and payments that one step expires at most, so that buyers are not kept waiting behind it.
const EXPIRE_AT_ONCE: usize = 256;

/// Nothing of the ledger's own is ever put aside. As many payments are closed at a time as one step hands out: a provider that
/// takes a second for each must not make thousands of them outlive their grace.
const ENDLESS: Retries = Retries {
    attempts: u32::MAX,
    first: IDLE,
    longest: IDLE,
    lease: Duration::from_secs(30),
    at_once: EXPIRE_AT_ONCE,
};

/// The jobs of a process for its sales. One process does them for a lane at a time; twice does no harm.
///
/// Expiry runs on a delay queue in memory, with a job for each lane that is ready at the lane's next deadline: what is due is in the
/// ledger, and a new process asks it. Refunds run on the queue that is given, whose dead letters are those that need somebody.
#[derive(Debug)]
pub struct Maintenance {
    sales: Arc<Sales>,
    deadlines: Arc<InMemoryQueue>,
    expiry: Worker,
    closing: Worker,
    refunds: Refunds,
}

impl Maintenance {
    /// The jobs for these sales. Refunds are put into `queue`, and tried again as `retries` say.
    pub fn new(sales: Arc<Sales>, payments: Payments, queue: Arc<dyn Queue>, retries: Retries) -> Self {
        let deadlines = Arc::new(InMemoryQueue::new(Arc::clone(sales.clock())));
        let delayed = Arc::clone(&deadlines) as Arc<dyn Queue>;
        let expiry = {
            let (sales, queue) = (Arc::clone(&sales), Arc::clone(&delayed));
            Worker::new(Arc::clone(&delayed), expiry(), ENDLESS, move |job| {
                let (sales, queue) = (Arc::clone(&sales), Arc::clone(&queue));
                async move { expire(&sales, &*queue, &job).await }
            })
        };
        let closing = {
            let payments = payments.clone();
            Worker::new(delayed, closing(), ENDLESS, move |job| {
                let payments = payments.clone();
                async move { close(&payments, &job).await }
            })
        };
        let refunds = Refunds::new(Arc::clone(&sales), payments, queue, retries);
        Self { sales, deadlines, expiry, closing, refunds }
    }

    /// Those who do the jobs, for whoever shows what they do.
    pub fn workers(&self) -> [&Worker; 3] {
        [&self.expiry, &self.closing, &self.refunds.worker]
    }

    /// The delay queue of expiry and closing, for whoever shows how much there is.
    pub fn deadlines(&self) -> &dyn Queue {
        &*self.deadlines
    }

    /// Works until `stop` becomes true, for sales that are opened later too. Jobs that are under way then are finished.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut jobs = JoinSet::new();
        for which in 0..self.workers().len() {
            let (upkeep, stop) = (Arc::clone(&self), stop.clone());
            jobs.spawn(async move { upkeep.workers()[which].run(stop).await });
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

    /// Expires everything that is due, in all lanes, and waits until payments are closed: for simulations and tests that
    /// move an injected clock.
    ///
    /// # Errors
    /// Those of the ledger; what was not reached is done by the next round.
    pub async fn expire_once(&self) -> Result<(), ServiceError> {
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            while !is_done(&expire_lane(&**self.sales.ledger(), &*self.deadlines, front.lane).await?) {}
        }
        if let Err(error) = self.closing.work_once().await {
            tracing::warn!(%error, "payments are not closed yet; the ledger hands them out again");
        }
        Ok(())
    }

    /// Puts every refund that is due into the queue, does those that are ready, and delivers what is on its way, in all
    /// lanes: for simulations and tests that move an injected clock.
    ///
    /// # Errors
    /// The first lane's failure, or the queue's.
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
                tracing::debug!(lane = ?front.lane, %error, "the view of a lane was not renewed");
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
    }

    /// Has a lane's orders expire from here on.
    async fn watch(&self, lane: Lane) {
        let id = format!("lane/{}/{}", lane.activity, lane.bucket);
        let job = NewJob::now(&expiry(), &id, &lane).expect("a lane is a small content");
        self.deadlines.put(vec![job]).await.expect("a queue in memory takes one job");
        self.expiry.wake();
    }

    /// Puts refunds of a lane that are due into the queue.
    async fn take_refunds(self: Arc<Self>, lane: Lane, mut stop: watch::Receiver<bool>) {
        let mut after = None;
        while !*stop.borrow() {
            let wait = match self.refunds.take(lane, after).await {
                Ok(Taken { after: next, new }) => {
                    after = next;
                    // Those that are in the queue already are gone through slowly.
                    if new > 0 && after.is_some() { Duration::ZERO } else { IDLE }
                }
                Err(error) => {
                    tracing::warn!(?lane, %error, "refunds that are due are not in the queue yet");
                    IDLE
                }
            };
            pause(&mut stop, wait).await;
        }
    }

    /// Brings units that are on their way to their destination.
    async fn settle_transfer(self: Arc<Self>, lane: Lane, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.deliver_all(lane).await {
                tracing::warn!(?lane, %error, "units on their way stay there for now");
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
    "expiry".parse().expect("it is a topic")
}

fn closing() -> Topic {
    "closing".parse().expect("it is a topic")
}

/// Expires what is due in the lane of a job, and puts the job off until something is due again.
async fn expire(sales: &Sales, queue: &dyn Queue, job: &Job) -> Verdict {
    let lane: Lane = job.content().expect("it was put in as a lane");
    let wait = match expire_lane(&**sales.ledger(), queue, lane).await {
        Ok(due) if !is_done(&due) => Duration::ZERO,
        // No longer than that: an order that is made meanwhile may have an earlier deadline.
        Ok(due) => due.next.map_or(IDLE, |next| next.since(sales.clock().now()).min(IDLE)),
        Err(error) => {
            tracing::warn!(?lane, %error, "overdue orders could not be expired");
            IDLE
        }
    };
    Verdict::Postpone { wait }
}

/// Expires what is due in a lane, and queues payments whose time is over, to be closed beside the others: a provider that does
/// not answer must not keep units from being sold.
async fn expire_lane(ledger: &dyn Ledger, queue: &dyn Queue, lane: Lane) -> Result<Due, ServiceError> {
    let due = ledger.expire_due(lane, EXPIRE_AT_ONCE).await?;
    let closing: Vec<_> = due.closing.iter().map(closing_job).collect();
    if let Err(error) = queue.put(closing).await {
        tracing::warn!(?lane, %error, "payments are not closed yet; the ledger hands them out again");
    }
    Ok(due)
}

fn closing_job(closing: &Closing) -> NewJob {
    NewJob::now(&self::closing(), &format!("payment/{}", closing.payment), closing)
        .expect("a payment is a small content")
}

/// Closes the payment of a job at its provider. If that fails, the ledger hands it out again after its retry time, until it gives
/// the order up.
async fn close(payments: &Payments, job: &Job) -> Verdict {
    let Closing { order, payment, provider, .. } = job.content().expect("it was put in as a closing");
    match payments.close_payment(order, payment, &provider).await {
        // The breaker said once that the provider is left alone.
        Ok(_) | Err(ServiceError::ProviderUnavailable { .. }) => {}
        Err(error) => tracing::warn!(%payment, %error, "a payment could not be closed; it is tried again"),
    }
    Verdict::Done
}

/// Whether a step found nothing more to do.
fn is_done(due: &Due) -> bool {
    due.expired.len() + due.closing.len() < EXPIRE_AT_ONCE
}
