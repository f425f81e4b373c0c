//! Workers, which run the jobs of a topic.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use super::{Claim, Job, Queue, QueueError, RetryPolicy, Settlement, Topic, Verdict};
use crate::interruptible_sleep::pause;

/// How often an idle worker looks for jobs: other processes may add some.
const IDLE: Duration = Duration::from_millis(500);

/// Job counts of a worker since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that succeeded.
    pub done: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Jobs that were put off without an attempt.
    pub postponed: u64,
    /// Jobs that became dead letters.
    pub parked: u64,
}

type JobFuture = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Runs the jobs of one topic, several at a time, and settles each by its verdict.
///
/// A job that panics or exceeds its lease has failed. After [`RetryPolicy::attempts`] attempts it is
/// parked, even if the attempts ended only because their process died.
pub struct Worker {
    queue: Arc<dyn Queue>,
    topic: Topic,
    retries: RetryPolicy,
    work: Box<dyn Fn(Job) -> JobFuture + Send + Sync>,
    wake: Notify,
    counts: [AtomicU64; 4],
}

impl Worker {
    /// Creates a worker that runs `work` for each job of `topic`.
    ///
    /// A [`Verdict::Retry`] is retried as `retries` allows, and parked after that. Its own `wait`
    /// is used if it is longer than the delay of `retries`.
    pub fn new<F: Future<Output = Verdict> + Send + 'static>(
        queue: Arc<dyn Queue>,
        topic: Topic,
        retries: RetryPolicy,
        work: impl Fn(Job) -> F + Send + Sync + 'static,
    ) -> Self {
        let work = Box::new(move |job| -> JobFuture { Box::pin(work(job)) });
        Self { queue, topic, retries, work, wake: Notify::new(), counts: Default::default() }
    }

    /// Reads the job counts.
    pub fn counts(&self) -> Counts {
        let [done, retried, postponed, parked] = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts { done: read(done), retried: read(retried), postponed: read(postponed), parked: read(parked) }
    }

    /// The topic of the worker's jobs.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Makes the worker look for ready jobs at once. Call it after queueing some.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Runs jobs until `stop` becomes true, and finishes those in progress.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let mut failures = 0;
        loop {
            let stopping = *stop.borrow();
            let started = if stopping { Ok(None) } else { self.begin(&mut running).await };
            if stopping && running.is_empty() {
                return;
            }
            let wait = match started {
                Ok(wait) => {
                    failures = 0;
                    wait.unwrap_or(IDLE).min(IDLE)
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(topic = %self.topic, %error, "the queue failed; retrying");
                    self.retries.wait(failures)
                }
            };
            tokio::select! {
                Some(ended) = running.join_next() => self.end(ended, &mut running).await,
                () = self.wake.notified(), if running.len() < self.retries.at_once => {}
                () = pause(&mut stop, wait), if !stopping => {}
            }
        }
    }

    /// Runs ready jobs, including those that become ready meanwhile, until none is left. Returns
    /// the number of jobs taken. For tests and simulations with an injected clock.
    ///
    /// # Errors
    /// Those of the queue. Jobs in progress are finished first.
    pub async fn work_once(&self) -> Result<usize, QueueError> {
        let mut running = JoinSet::new();
        let mut tried = 0;
        loop {
            let before = running.len();
            let started = self.begin(&mut running).await;
            tried += running.len() - before;
            match running.join_next().await {
                Some(ended) => self.end(ended, &mut running).await,
                None => return started.map(|_| tried),
            }
        }
    }

    /// Starts ready jobs while there is room. Returns the time until the next one is ready.
    async fn begin(&self, running: &mut JoinSet<Settlement>) -> Result<Option<Duration>, QueueError> {
        let room = self.retries.at_once.max(1).saturating_sub(running.len());
        if room == 0 {
            return Ok(None);
        }
        let claimed = self.queue.claim(&self.topic, room, self.retries.lease).await?;
        for job in claimed.jobs {
            let (claim, attempt) = (job.claim, job.attempt);
            if attempt > self.retries.attempts {
                let error = format!("{} attempts ended without a result", self.retries.attempts);
                running.spawn(async move { Settlement { claim, verdict: Verdict::Park { error } } });
                continue;
            }
            let (work, retries) = ((self.work)(job), self.retries);
            running.spawn(async move {
                // A task of its own isolates panics; the timeout stops a job that hangs.
                let mut task = tokio::spawn(work);
                let failed = |error: String| Verdict::Retry { wait: Duration::ZERO, error };
                let verdict = match timeout(retries.lease, &mut task).await {
                    Ok(Ok(verdict)) => verdict,
                    Ok(Err(panic)) => failed(panic.to_string()),
                    Err(_) => {
                        task.abort();
                        failed(format!("no result within {:?}", retries.lease))
                    }
                };
                Settlement { claim, verdict: limited(verdict, attempt, retries) }
            });
        }
        Ok(claimed.next.map(|next| next.since(claimed.at)))
    }

    /// Settles a finished job, together with others that finished meanwhile.
    async fn end(
        &self,
        ended: Result<Settlement, tokio::task::JoinError>,
        running: &mut JoinSet<Settlement>,
    ) {
        let mut settlements: Vec<_> = ended.ok().into_iter().collect();
        while let Some(ended) = running.try_join_next() {
            settlements.extend(ended.ok());
        }
        // A job that cannot be settled is ready again when its lease ends.
        if let Err(error) = self.queue.settle(settlements.clone()).await {
            tracing::warn!(topic = %self.topic, %error, "jobs could not be settled and will run again");
        }
        for Settlement { claim, verdict } in &settlements {
            self.report(*claim, verdict);
        }
    }

    fn report(&self, claim: Claim, verdict: &Verdict) {
        let [done, retried, postponed, parked] = &self.counts;
        let (topic, job) = (&self.topic, claim.number);
        let count = match verdict {
            Verdict::Done => done,
            Verdict::Retry { wait, error } => {
                tracing::warn!(%topic, %job, error, ?wait, "a job failed and will be retried");
                retried
            }
            Verdict::Postpone { .. } => postponed,
            Verdict::Park { error } => {
                tracing::error!(%topic, %job, error, "a job failed for good and is now a dead letter");
                parked
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("topic", &self.topic)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Applies the retry limits to the verdict of an attempt.
fn limited(verdict: Verdict, attempt: u32, retries: RetryPolicy) -> Verdict {
    match verdict {
        Verdict::Retry { error, .. } if attempt >= retries.attempts => Verdict::Park { error },
        Verdict::Retry { wait, error } => Verdict::Retry { wait: wait.max(retries.wait(attempt)), error },
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        domain::{ManualClock, Timestamp},
        queue::{InMemoryQueue, NewJob},
    };

    struct Scene {
        clock: Arc<ManualClock>,
        queue: Arc<InMemoryQueue>,
    }

    impl Scene {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
            let queue = Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _));
            Self { clock, queue }
        }

        async fn put(&self, ids: &[&str]) {
            let jobs = ids.iter().map(|id| NewJob::now(&topic(), id, &()).unwrap()).collect();
            self.queue.put(jobs).await.unwrap();
        }

        fn worker<F: Future<Output = Verdict> + Send + 'static>(
            &self,
            retries: RetryPolicy,
            work: impl Fn(Job) -> F + Send + Sync + 'static,
        ) -> Worker {
            Worker::new(Arc::clone(&self.queue) as _, topic(), retries, work)
        }

        async fn dead(&self) -> Vec<(String, u32, String)> {
            let letters = self.queue.dead_letters(None, 100).await.unwrap();
            letters.into_iter().map(|letter| (letter.id.to_string(), letter.attempts, letter.error)).collect()
        }
    }

    fn topic() -> Topic {
        "letters".parse().unwrap()
    }

    fn retry() -> Verdict {
        Verdict::Retry { wait: Duration::ZERO, error: "no".to_owned() }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_vary() {
        let retries = RetryPolicy {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            ..RetryPolicy::default()
        };
        for (attempt, longest) in
            [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (40, 60.0), (u32::MAX, 60.0)]
        {
            let waits: Vec<f64> = (0..100).map(|_| retries.wait(attempt).as_secs_f64()).collect();
            assert!(
                waits.iter().all(|wait| (longest / 2.0..=longest).contains(wait)),
                "{attempt}: {waits:?}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]), "the delays vary");
        }
    }

    #[tokio::test]
    async fn a_job_is_parked_after_its_last_attempt() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let retries = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
        let worker = scene.worker(retries, move |job| {
            notes.lock().unwrap().push(job.attempt);
            async { retry() }
        });
        for _ in 0..5 {
            worker.work_once().await.unwrap();
            scene.clock.advance(retries.longest);
        }
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
        assert_eq!(scene.dead().await, [("a".to_owned(), 3, "no".to_owned())]);
        assert_eq!(worker.counts(), Counts { retried: 2, parked: 1, ..Counts::default() });
    }

    #[tokio::test]
    async fn postponing_never_parks_a_job() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let worker = scene.worker(RetryPolicy { attempts: 2, ..RetryPolicy::default() }, |_| async {
            Verdict::Postpone { wait: Duration::from_secs(1) }
        });
        for _ in 0..9 {
            assert_eq!(worker.work_once().await.unwrap(), 1);
            scene.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(worker.counts(), Counts { postponed: 9, ..Counts::default() });
        assert_eq!(scene.dead().await, []);
    }

    #[tokio::test]
    async fn a_job_that_panics_has_failed() {
        let scene = Scene::new();
        scene.put(&["a", "b"]).await;
        let worker = scene.worker(RetryPolicy { attempts: 1, ..RetryPolicy::default() }, |job| async move {
            assert_ne!(job.id.as_str(), "a", "this job always fails");
            Verdict::Done
        });
        worker.work_once().await.unwrap();
        let dead = scene.dead().await;
        assert_eq!(dead.len(), 1);
        assert!(dead[0].0 == "a" && dead[0].2.contains("panicked"), "{dead:?}");
    }

    #[tokio::test]
    async fn a_job_whose_process_always_died_is_parked_without_another_attempt() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let retries = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        for _ in 0..2 {
            assert_eq!(scene.queue.claim(&topic(), 1, retries.lease).await.unwrap().jobs.len(), 1);
            scene.clock.advance(retries.lease);
        }
        let worker = scene.worker(retries, |_| async { unreachable!("not attempted") });
        worker.work_once().await.unwrap();
        assert_eq!(scene.dead().await, [("a".to_owned(), 3, "2 attempts ended without a result".to_owned())]);
    }

    #[tokio::test]
    async fn jobs_running_at_once_are_limited() {
        let scene = Scene::new();
        scene.put(&["a", "b", "c", "d", "e"]).await;
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = (Arc::clone(&running), Arc::clone(&most));
        let worker = scene.worker(RetryPolicy { at_once: 2, ..RetryPolicy::default() }, move |_| {
            let (running, most) = counted.clone();
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Verdict::Done
            }
        });
        assert_eq!(worker.work_once().await.unwrap(), 5);
        assert_eq!((most.load(Ordering::SeqCst), worker.counts().done), (2, 5));
    }

    #[tokio::test]
    async fn a_stopped_worker_finishes_jobs_in_progress() {
        let scene = Scene::new();
        let (began, mut begun) = mpsc::unbounded_channel();
        let finish = Arc::new(Notify::new());
        let waited = Arc::clone(&finish);
        let worker = Arc::new(scene.worker(RetryPolicy::default(), move |job| {
            let (began, waited) = (began.clone(), Arc::clone(&waited));
            async move {
                began.send(job.id.to_string()).unwrap();
                waited.notified().await;
                Verdict::Done
            }
        }));
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { worker.run(stopped).await }
        });
        scene.put(&["a"]).await;
        worker.wake();
        assert_eq!(begun.recv().await.unwrap(), "a");
        stop.send_replace(true);
        scene.put(&["b"]).await;
        worker.wake();
        finish.notify_one();
        running.await.unwrap();
        assert_eq!(worker.counts(), Counts { done: 1, ..Counts::default() });
        assert_eq!(scene.queue.depths().await.unwrap()[0].waiting, 1, "no new job was started");
    }
}
