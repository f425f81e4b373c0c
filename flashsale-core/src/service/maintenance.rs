//! Background jobs: view renewal, expiry, closing of payments, refunds and transfers.
//!
//! One schedule for all lanes: a lane has work when it changes, when an order in it is due, and while
//! it may sell. One that is over costs nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use super::{
    ChangedLanes, Payments, Sales, ServiceError,
    lane_schedule::{CHORES_EVERY, LaneSchedule, Next, ROUND, Task, VIEW_EVERY, Work},
    refunds::{RefundError, Refunds, Taken},
    sales::settle_transfer,
};
use crate::{
    domain::{OrderKey, SteadyTime},
    interruptible_sleep::pause,
    ledger::{Closing, Due, Lane, Ledger, LedgerCalls as _},
    queue::{InMemoryQueue, Job, NewJob, Queue, RetryPolicy, Topic, Verdict, Worker},
};

/// How often to look at the clock, which may jump.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the view of a lane that may sell is renewed without a change in this process, if others
/// may change it ([`Bounds::is_shared`](crate::ledger::Bounds)).
const SHARED_VIEW_EVERY: Duration = Duration::from_millis(200);
/// The same if only this process changes it: within the lifetime of a view.
const OWN_VIEW_EVERY: Duration = Duration::from_millis(500);
/// How often a shared lane that may sell has its chores done without a change in this process: with
/// two tiers, orders that wait to be persisted begin their hold later.
const SHARED_CHORES_EVERY: Duration = Duration::from_secs(1);
/// The most orders and payments that one expiry step handles, so that buyers do not wait behind it.
const EXPIRE_AT_ONCE: usize = 256;
/// Closing jobs are never parked. As many payments are closed concurrently as one step returns:
/// with a provider that takes a second per call, thousands must not outlive their grace.
const NEVER_PARK: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: CHORES_EVERY,
    longest: CHORES_EVERY,
    lease: Duration::from_secs(30),
    at_once: EXPIRE_AT_ONCE,
};

/// The background jobs of a process. One process per lane is enough; duplicates are harmless.
///
/// Deadlines are in the ledger, so a restart loses nothing. Overdue payments are closed through an
/// in-memory queue. Refunds use the given queue; those that keep failing become dead letters there.
#[derive(Debug)]
pub struct Maintenance {
    sales: Arc<Sales>,
    /// Whether others change the lanes too.
    is_shared: bool,
    changes: Arc<ChangedLanes>,
    deadlines: Arc<InMemoryQueue>,
    closing: Worker,
    refunds: Refunds,
}

impl Maintenance {
    /// Creates the jobs for these sales. Refunds go through `queue` and follow `retries`.
    pub fn new(sales: Arc<Sales>, payments: Payments, queue: Arc<dyn Queue>, retries: RetryPolicy) -> Self {
        let deadlines = Arc::new(InMemoryQueue::new(Arc::new(SteadyTime(Arc::clone(sales.clock())))));
        let closing = {
            let payments = payments.clone();
            Worker::new(Arc::clone(&deadlines) as Arc<dyn Queue>, closing(), NEVER_PARK, move |job| {
                let payments = payments.clone();
                async move { close(&payments, &job).await }
            })
        };
        let refunds = Refunds::new(Arc::clone(&sales), payments, queue, retries);
        let (changes, is_shared) = (sales.follow_changes(), sales.ledger().bounds().is_shared);
        Self { sales, is_shared, changes, deadlines, closing, refunds }
    }

    /// The workers of closing and refunds, for monitoring.
    pub fn workers(&self) -> [&Worker; 2] {
        [&self.closing, &self.refunds.worker]
    }

    /// The queue of payments to be closed, for monitoring.
    pub fn deadlines(&self) -> &dyn Queue {
        &*self.deadlines
    }

    /// Runs until `stop` becomes true, then finishes jobs in progress. Picks up sales opened later.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut workers = JoinSet::new();
        for which in 0..self.workers().len() {
            let (maintenance, stop) = (Arc::clone(&self), stop.clone());
            workers.spawn(async move { maintenance.workers()[which].run(stop).await });
        }
        let mut running = Running::new();
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            running.schedule.changed(front.lane, Instant::now());
        }
        while !*stop.borrow() {
            let looked = Instant::now();
            self.plan(&mut running.schedule);
            for (task, cursor) in running.schedule.begin(Instant::now(), self.sales.clock().now()) {
                running.start(task, Arc::clone(&self).work(task, cursor));
            }
            let wait = running.schedule.next().map(|next| next.saturating_duration_since(Instant::now()));
            tokio::select! {
                Some(ended) = running.tasks.join_next_with_id() => running.end(ended),
                () = pause(&mut stop, wait.map_or(LOOK_EVERY, |wait| wait.min(LOOK_EVERY))) => {}
                () = self.changed(looked) => {}
            }
        }
        while running.tasks.join_next().await.is_some() {}
        workers.join_all().await;
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

    /// Waits for a change, but not less than the time that busy lanes are paced by.
    async fn changed(&self, looked: Instant) {
        self.changes.changed().await;
        tokio::time::sleep_until(looked + VIEW_EVERY).await;
    }

    /// Plans the work of lanes that changed, and of those whose turn it is.
    fn plan(&self, schedule: &mut LaneSchedule) {
        let now = Instant::now();
        for lane in self.changes.take() {
            match self.sales.sale(lane.activity) {
                Some(_) => schedule.changed(lane, now),
                None => schedule.forget(lane),
            }
        }
        if self.is_shared {
            // The other jobs follow the changes, too.
            schedule.round(now).into_iter().for_each(|lane| self.sales.note_change(lane));
        }
    }

    async fn work(self: Arc<Self>, Task { work, lane }: Task, cursor: Option<OrderKey>) -> Next {
        if self.sales.sale(lane.activity).is_none() {
            // It was left meanwhile; reading it would bring it back into memory.
            return Next::default();
        }
        let next = match work {
            Work::View => return self.renew(lane).await,
            Work::Deadlines => self.expire(lane).await,
            Work::Refunds => self.take_refunds(lane, cursor).await,
            Work::Transfers => self.deliver(lane).await,
        };
        let look_again = self.is_shared
            && self.sales.sale(lane.activity).is_some_and(|sale| !sale.rests(self.sales.clock().now()));
        Next { after: next.after.or(look_again.then_some(SHARED_CHORES_EVERY)), ..next }
    }

    /// Renews the view of a lane: regularly while it may sell.
    async fn renew(&self, lane: Lane) -> Next {
        let Some(sale) = self.sales.sale(lane.activity) else { return Next::default() };
        let Some(front) = sale.fronts().iter().find(|front| front.lane == lane) else {
            return Next::default();
        };
        let every = if self.is_shared { SHARED_VIEW_EVERY } else { OWN_VIEW_EVERY };
        let again = Next { after: Some(every), ..Next::default() };
        if let Err(error) = self.sales.renew(front).await {
            tracing::debug!(?lane, %error, "failed to renew the view of a lane");
            return again;
        }
        let rests_until = front.rests_until(self.sales.clock().now());
        rests_until.map_or(again, |until| Next { at: Some(until), ..Next::default() })
    }

    /// Expires what is due in a lane.
    async fn expire(&self, lane: Lane) -> Next {
        match expire_lane(&**self.sales.ledger(), &*self.deadlines, lane).await {
            Ok(due) => {
                if !due.closing.is_empty() {
                    self.closing.wake();
                }
                if !due.expired.is_empty() || !due.closing.is_empty() {
                    // Its units are on sale again, and its readers have events to read.
                    self.sales.note_change(lane);
                }
                Next { after: (!is_done(&due)).then_some(Duration::ZERO), at: due.next, cursor: None }
            }
            Err(error) => {
                tracing::warn!(?lane, %error, "overdue orders could not be expired");
                Next { after: Some(CHORES_EVERY), ..Next::default() }
            }
        }
    }

    /// Queues the due refunds of a lane, some at a time.
    async fn take_refunds(&self, lane: Lane, after: Option<OrderKey>) -> Next {
        match self.refunds.take(lane, after).await {
            Ok(Taken { after: cursor, new, any }) => {
                // Reads slowly through those that are in the queue already. One whose job just ended
                // without effect is listed again.
                let wait = if new > 0 { Duration::ZERO } else { CHORES_EVERY };
                let again = cursor.map(|_| wait).or(any.then_some(ROUND));
                Next { after: again, at: None, cursor }
            }
            Err(error) => {
                tracing::warn!(?lane, %error, "due refunds are not in the queue yet");
                Next { after: Some(CHORES_EVERY), at: None, cursor: after }
            }
        }
    }

    /// Delivers units in transit to their destination lanes.
    async fn deliver(&self, lane: Lane) -> Next {
        match self.deliver_all(lane).await {
            Ok(true) => Next::default(),
            Ok(false) => Next { after: Some(CHORES_EVERY), ..Next::default() },
            Err(error) => {
                tracing::warn!(?lane, %error, "units in transit could not be delivered yet");
                Next { after: Some(CHORES_EVERY), ..Next::default() }
            }
        }
    }

    /// Delivers what a lane has sent. Returns whether the lane has forgotten all of it: with two tiers,
    /// only what the truth knows to have arrived.
    async fn deliver_all(&self, lane: Lane) -> Result<bool, ServiceError> {
        let ledger = self.sales.ledger();
        let transfers = ledger.transfers(lane).await?;
        for transfer in transfers.iter().copied() {
            let settled = settle_transfer(ledger, transfer).await;
            self.sales.note_change(Lane { bucket: transfer.to, ..lane });
            settled?;
        }
        Ok(transfers.is_empty() || ledger.transfers(lane).await?.is_empty())
    }
}

/// The schedule, and its tasks in progress.
struct Running {
    schedule: LaneSchedule,
    tasks: JoinSet<Next>,
    ids: HashMap<Id, Task>,
}

impl Running {
    fn new() -> Self {
        Self { schedule: LaneSchedule::new(Instant::now()), tasks: JoinSet::new(), ids: HashMap::new() }
    }

    fn start(&mut self, task: Task, work: impl Future<Output = Next> + Send + 'static) {
        self.ids.insert(self.tasks.spawn(work).id(), task);
    }

    fn end(&mut self, ended: Result<(Id, Next), JoinError>) {
        let (id, next) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a job for a lane has panicked and is repeated");
                (error.id(), Next { after: Some(CHORES_EVERY), ..Next::default() })
            }
        };
        if let Some(task) = self.ids.remove(&id) {
            self.schedule.ended(task, next, Instant::now());
        }
    }
}

fn closing() -> Topic {
    "closing".parse().expect("a valid topic")
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
