//! Refunds: a queue carries them from the ledger, where they fall due, to the provider.

use std::{sync::Arc, time::Duration};

use super::{Payments, Sales, ServiceError};
use crate::{
    domain::{Capture, OrderKey, Refund, RefundStatus, text},
    ledger::{Lane, LedgerCalls as _, RefundTask},
    queue::{Job, MAX_BATCH, NewJob, Put, Queue, QueueError, RetryPolicy, Topic, Verdict, Worker},
};

/// The number of orders whose refunds are read in one call.
const AT_ONCE: usize = 64;
/// The longest random delay on top of the breaker's, so that postponed refunds spread out.
const POSTPONE_JITTER: Duration = Duration::from_secs(30);

/// Why due refunds are not in the queue yet. They stay due in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The queue did not take them.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Moves due refunds from the ledger to the queue, and executes them.
#[derive(Debug)]
pub(super) struct Refunds {
    sales: Arc<Sales>,
    queue: Arc<dyn Queue>,
    pub(super) worker: Worker,
}

/// The result of reading a lane's refunds.
pub(super) struct Taken {
    /// Where to continue; `None` at the end of the lane.
    pub(super) after: Option<OrderKey>,
    /// How many were not in the queue before.
    pub(super) new: usize,
    /// Whether any are due.
    pub(super) any: bool,
}

/// The topic `refunds`, whose jobs contain a [`RefundTask`].
pub(super) fn topic() -> Topic {
    "refunds".parse().expect("a valid topic")
}

impl Refunds {
    pub(super) fn new(
        sales: Arc<Sales>,
        payments: Payments,
        queue: Arc<dyn Queue>,
        retries: RetryPolicy,
    ) -> Self {
        let worker = Worker::new(Arc::clone(&queue), topic(), retries, move |job: Job| {
            let payments = payments.clone();
            async move { carry_out(&payments, &job).await }
        });
        Self { sales, queue, worker }
    }

    /// Queues up to [`AT_ONCE`] orders' due refunds, starting after an order. Refunds that are
    /// already queued or parked stay as they are.
    pub(super) async fn take(&self, lane: Lane, after: Option<OrderKey>) -> Result<Taken, RefundError> {
        let due = self.sales.ledger().refunds_due(lane, after, AT_ONCE).await.map_err(ServiceError::from)?;
        let Some(last) = due.last() else { return Ok(Taken { after: None, new: 0, any: false }) };
        let after = (due.len() >= AT_ONCE).then_some(last.order);
        let mut new = 0;
        // An order can have several refunds.
        for tasks in due.chunks(MAX_BATCH) {
            let put = self.queue.put(tasks.iter().map(job).collect()).await?;
            new += put.iter().filter(|put| matches!(put, Put::New(_))).count();
        }
        if new > 0 {
            self.worker.wake();
        }
        Ok(Taken { after, new, any: true })
    }

    /// Queues all due refunds of a lane.
    pub(super) async fn take_all(&self, lane: Lane) -> Result<(), RefundError> {
        let mut after = None;
        loop {
            after = self.take(lane, after).await?.after;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Builds the job of a refund. The same refund always gets the same job id.
fn job(task: &RefundTask) -> NewJob {
    let Capture { provider, payment, transaction, .. } = &task.capture;
    // Neither provider names nor payment ids contain line feeds.
    let digest = text::digest128(format!("{provider}\n{payment}\n{transaction}").as_bytes());
    let first = format!("refund/{}/{digest:032x}", task.order.id);
    let id = if task.number == 0 { first } else { format!("{first}/{}", task.number) };
    NewJob::now(&topic(), &id, task).expect("the id is short and the content small")
}

async fn carry_out(payments: &Payments, job: &Job) -> Verdict {
    let task: RefundTask = match job.content() {
        Ok(task) => task,
        Err(error) => return Verdict::Park { error: error.to_string() },
    };
    // The refund may have changed since the job was queued. One that waits for a dispute is listed
    // again when the dispute has ended.
    let amount = match payments.refund_of(&task).await {
        Ok(Some(Refund { status: RefundStatus::Due, amount, .. })) => amount,
        Ok(_) => return Verdict::Done,
        Err(error) => return Verdict::Retry { wait: Duration::ZERO, error: error.to_string() },
    };
    match payments.refund(&RefundTask { amount, ..task }).await {
        Ok(_) => Verdict::Done,
        // The provider was not called, so this does not count as an attempt.
        Err(ServiceError::ProviderUnavailable { retry_after }) => {
            Verdict::Postpone { wait: retry_after + POSTPONE_JITTER.mul_f64(fastrand::f64()) }
        }
        Err(ServiceError::Busy { retry_after }) => {
            Verdict::Retry { wait: retry_after, error: "the ledger is busy".to_owned() }
        }
        Err(error) => Verdict::Retry { wait: Duration::ZERO, error: error.to_string() },
    }
}
