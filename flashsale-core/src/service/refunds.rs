//! Refunds: from what the ledger says is due to the provider, by a queue.

use std::{sync::Arc, time::Duration};

use super::{Payments, Sales, ServiceError};
use crate::{
    domain::{OrderId, RefundStatus, text},
    ledger::{Lane, RefundTask},
    queue::{Job, MAX_BATCH, NewJob, Put, Queue, QueueError, Retries, Topic, Verdict, Worker},
};

/// Orders whose refunds are read at once.
const AT_ONCE: usize = 64;
/// How much longer than its breaker a refund leaves its provider alone, at most.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// Why refunds that are due are not in the queue yet. They stay due in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The queue takes nothing.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Takes refunds out of the ledger and carries them out.
#[derive(Debug)]
pub(super) struct Refunds {
    sales: Arc<Sales>,
    queue: Arc<dyn Queue>,
    pub(super) worker: Worker,
}

/// What was read of a lane's refunds.
pub(super) struct Taken {
    /// Where to read on; `None` at the end.
    pub(super) after: Option<OrderId>,
    /// How many were not in the queue before.
    pub(super) new: usize,
}

/// The topic of refunds: `refunds`. The content of its jobs is a [`RefundTask`].
pub(super) fn topic() -> Topic {
    "refunds".parse().expect("it is a topic")
}

impl Refunds {
    pub(super) fn new(
        sales: Arc<Sales>,
        payments: Payments,
        queue: Arc<dyn Queue>,
        retries: Retries,
    ) -> Self {
        let worker = Worker::new(Arc::clone(&queue), topic(), retries, move |job: Job| {
            let payments = payments.clone();
            async move { carry_out(&payments, &job).await }
        });
        Self { sales, queue, worker }
    }

    /// Puts refunds of a lane that are due into the queue, those after an order, as many as are read at once. One that is
    /// there already, waiting or parked, stays as it is.
    pub(super) async fn take(&self, lane: Lane, after: Option<OrderId>) -> Result<Taken, RefundError> {
        let due = self.sales.ledger().refunds_due(lane, after, AT_ONCE).await.map_err(ServiceError::from)?;
        let Some(last) = due.last() else { return Ok(Taken { after: None, new: 0 }) };
        let after = (due.len() >= AT_ONCE).then_some(last.order.id);
        let mut new = 0;
        // An order can have several refunds.
        for tasks in due.chunks(MAX_BATCH) {
            let put = self.queue.put(tasks.iter().map(job).collect()).await?;
            new += put.iter().filter(|put| matches!(put, Put::New(_))).count();
        }
        if new > 0 {
            self.worker.wake();
        }
        Ok(Taken { after, new })
    }

    /// Puts all refunds of a lane that are due into the queue.
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

/// The job of a refund: the same for the same transaction.
fn job(task: &RefundTask) -> NewJob {
    let (provider, transaction) = (task.capture.provider.as_str(), task.capture.transaction.as_str());
    // Names of providers have no line feeds.
    let digest = text::digest128(format!("{provider}\n{transaction}").as_bytes());
    NewJob::now(&topic(), &format!("refund/{}/{digest:032x}", task.order.id), task)
        .expect("its id is short, and its content has no more than a transaction")
}

async fn carry_out(payments: &Payments, job: &Job) -> Verdict {
    let task: RefundTask = match job.content() {
        Ok(task) => task,
        Err(error) => return Verdict::Park { error: error.to_string() },
    };
    // The job may be older than what was decided since: somebody gave the refund up, or another attempt has done it.
    match payments.refund_of(&task).await {
        Ok(Some(RefundStatus::Due)) => {}
        Ok(_) => return Verdict::Done,
        Err(error) => return Verdict::Retry { wait: Duration::ZERO, error: error.to_string() },
    }
    match payments.refund(&task).await {
        Ok(_) => Verdict::Done,
        // Nobody was asked: that was no attempt. Those that wait are not asked for all at once afterwards.
        Err(ServiceError::ProviderUnavailable { retry_after }) => {
            Verdict::Postpone { wait: retry_after + LEFT_ALONE.mul_f64(fastrand::f64()) }
        }
        Err(ServiceError::Busy { retry_after }) => {
            Verdict::Retry { wait: retry_after, error: "the ledger is busy".to_owned() }
        }
        Err(error) => Verdict::Retry { wait: Duration::ZERO, error: error.to_string() },
    }
}
