//! Doing the jobs of a topic.

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

use super::{Claim, Job, Queue, QueueError, Settlement, Topic, Verdict};
use crate::interruptible_sleep::pause;

/// How long nothing is looked at when no job is ready: other processes may put jobs in.
const IDLE: Duration = Duration::from_millis(500);

/// How jobs are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often a job is tried before it is parked, from 1. Default 12.
    pub attempts: u32,
    /// How long the second attempt waits at most; each further one twice as long. Default 1 s.
    pub first: Duration,
    /// How long an attempt waits at most. Default 5 min: the twelfth attempt is half an hour after the first at most.
    pub longest: Duration,
    /// How long a job belongs to who does it; it has to be longer than doing it takes. Default 30 s.
    pub lease: Duration,
    /// How many jobs are done at a time, from 1. Default 16.
    pub at_once: usize,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            lease: Duration::from_secs(30),
            at_once: 16,
        }
    }
}

impl Retries {
    /// How long to wait after the failure of an attempt: a random part, at least half, of a span that doubles with each attempt,
    /// so that jobs which failed together are not tried together.
    pub fn wait(&self, attempt: u32) -> Duration {
        let doubled =
            2_u32.checked_pow(attempt.saturating_sub(1)).and_then(|times| self.first.checked_mul(times));
        let longest = doubled.map_or(self.longest, |span| span.min(self.longest));
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// What came of a worker's jobs since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that were done.
    pub done: u64,
    /// Attempts that failed and are repeated.
    pub retried: u64,
    /// Jobs that were not tried because it could not help.
    pub postponed: u64,
    /// Jobs that were parked.
    pub parked: u64,
}

type Doing = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Does the jobs of one topic: takes those that are ready, several at a time, and settles each as its outcome says.
///
/// A job that panics, or takes longer than its lease, counts as failed. One that was tried as often as [`Retries::attempts`] allows is parked, also if its
/// attempts ended with the process that made them.
pub struct Worker {
    queue: Arc<dyn Queue>,
    topic: Topic,
    retries: Retries,
    work: Box<dyn Fn(Job) -> Doing + Send + Sync>,
    wake: Notify,
    counts: [AtomicU64; 4],
}

impl Worker {
    /// A worker that does `work` for each job of `topic`.
    ///
    /// A [`Verdict::Retry`] is repeated as long as `retries` allow, and parked afterwards; the wait that it names is used
    /// if it is longer than theirs.
    pub fn new<F: Future<Output = Verdict> + Send + 'static>(
        queue: Arc<dyn Queue>,
        topic: Topic,
        retries: Retries,
        work: impl Fn(Job) -> F + Send + Sync + 'static,
    ) -> Self {
        let work = Box::new(move |job| -> Doing { Box::pin(work(job)) });
        Self { queue, topic, retries, work, wake: Notify::new(), counts: Default::default() }
    }

    /// What came of the jobs so far.
    pub fn counts(&self) -> Counts {
        let [done, retried, postponed, parked] = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts { done: read(done), retried: read(retried), postponed: read(postponed), parked: read(parked) }
    }

    /// Its topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Looks for ready jobs at once: for whoever has put some in.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Does jobs until `stop` becomes true; those that are under way then are finished.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        let mut failures = 0;
        loop {
            let stopping = *stop.borrow();
            let looked = if stopping { Ok(None) } else { self.begin(&mut under_way).await };
            if stopping && under_way.is_empty() {
                return;
            }
            let wait = match looked {
                Ok(wait) => {
                    failures = 0;
                    wait.unwrap_or(IDLE).min(IDLE)
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(topic = %self.topic, %error, "the queue does not answer; it is asked again");
                    self.retries.wait(failures)
                }
            };
            tokio::select! {
                Some(ended) = under_way.join_next() => self.end(ended, &mut under_way).await,
                () = self.wake.notified(), if under_way.len() < self.retries.at_once => {}
                () = pause(&mut stop, wait), if !stopping => {}
            }
        }
    }

    /// Does the jobs that are ready, and those that become ready meanwhile, until there is none; answers how many times a
    /// job was tried. For tests and simulations that move an injected clock.
    ///
    /// # Errors
    /// Those of the queue; jobs that were begun are finished.
    pub async fn work_once(&self) -> Result<usize, QueueError> {
        let mut under_way = JoinSet::new();
        let mut tried = 0;
        loop {
            let before = under_way.len();
            let begun = self.begin(&mut under_way).await;
            tried += under_way.len() - before;
            match under_way.join_next().await {
                Some(ended) => self.end(ended, &mut under_way).await,
                None => return begun.map(|_| tried),
            }
        }
    }

    /// Begins jobs that are ready, if there is room; answers how long there is nothing more to begin.
    async fn begin(&self, under_way: &mut JoinSet<Settlement>) -> Result<Option<Duration>, QueueError> {
        let room = self.retries.at_once.max(1).saturating_sub(under_way.len());
        if room == 0 {
            return Ok(None);
        }
        let claimed = self.queue.claim(&self.topic, room, self.retries.lease).await?;
        for job in claimed.jobs {
            let (claim, attempt) = (job.claim, job.attempt);
            if attempt > self.retries.attempts {
                let error = format!("{} attempts ended without a result", self.retries.attempts);
                under_way.spawn(async move { Settlement { claim, verdict: Verdict::Park { error } } });
                continue;
            }
            let (work, retries) = ((self.work)(job), self.retries);
            under_way.spawn(async move {
                // A task of its own, so that a panic is one job's; it ends with its lease, so that a job that hangs does
                // not keep others from being done.
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
                Settlement { claim, verdict: bounded(verdict, attempt, retries) }
            });
        }
        Ok(claimed.next.map(|next| next.since(claimed.at)))
    }

    /// Settles a job that ended, together with those that ended meanwhile.
    async fn end(
        &self,
        ended: Result<Settlement, tokio::task::JoinError>,
        under_way: &mut JoinSet<Settlement>,
    ) {
        let mut settlements: Vec<_> = ended.ok().into_iter().collect();
        while let Some(ended) = under_way.try_join_next() {
            settlements.extend(ended.ok());
        }
        // What cannot be settled comes back when its lease has ended.
        if let Err(error) = self.queue.settle(settlements.clone()).await {
            tracing::warn!(topic = %self.topic, %error, "what came of a job was not kept; it is done again");
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
                tracing::warn!(%topic, %job, error, ?wait, "a job failed and is tried again");
                retried
            }
            Verdict::Postpone { .. } => postponed,
            Verdict::Park { error } => {
                tracing::error!(%topic, %job, error, "a job cannot be done; it is a dead letter now");
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

/// What becomes of a job whose attempt ended so.
fn bounded(verdict: Verdict, attempt: u32, retries: Retries) -> Verdict {
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
            retries: Retries,
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
    fn waits_double_up_to_the_longest_and_vary() {
        let retries =
            Retries { first: Duration::from_secs(1), longest: Duration::from_secs(60), ..Retries::default() };
        for (attempt, longest) in
            [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (40, 60.0), (u32::MAX, 60.0)]
        {
            let waits: Vec<f64> = (0..100).map(|_| retries.wait(attempt).as_secs_f64()).collect();
            assert!(
                waits.iter().all(|wait| (longest / 2.0..=longest).contains(wait)),
                "{attempt}: {waits:?}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]), "they vary");
        }
    }

    #[tokio::test]
    async fn a_job_is_tried_as_often_as_allowed_and_then_parked() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let retries = Retries { attempts: 3, ..Retries::default() };
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
    async fn a_postponed_job_is_never_parked_for_it() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let worker = scene.worker(Retries { attempts: 2, ..Retries::default() }, |_| async {
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
    async fn a_job_that_panics_is_one_that_failed() {
        let scene = Scene::new();
        scene.put(&["a", "b"]).await;
        let worker = scene.worker(Retries { attempts: 1, ..Retries::default() }, |job| async move {
            assert_ne!(job.id.as_str(), "a", "it does not like this one");
            Verdict::Done
        });
        worker.work_once().await.unwrap();
        let dead = scene.dead().await;
        assert_eq!(dead.len(), 1);
        assert!(dead[0].0 == "a" && dead[0].2.contains("panicked"), "{dead:?}");
    }

    #[tokio::test]
    async fn a_job_whose_process_died_each_time_is_parked_without_another_try() {
        let scene = Scene::new();
        scene.put(&["a"]).await;
        let retries = Retries { attempts: 2, ..Retries::default() };
        for _ in 0..2 {
            assert_eq!(scene.queue.claim(&topic(), 1, retries.lease).await.unwrap().jobs.len(), 1);
            scene.clock.advance(retries.lease);
        }
        let worker = scene.worker(retries, |_| async { unreachable!("it is not tried") });
        worker.work_once().await.unwrap();
        assert_eq!(scene.dead().await, [("a".to_owned(), 3, "2 attempts ended without a result".to_owned())]);
    }

    #[tokio::test]
    async fn no_more_jobs_are_done_at_once_than_allowed() {
        let scene = Scene::new();
        scene.put(&["a", "b", "c", "d", "e"]).await;
        let (under_way, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = (Arc::clone(&under_way), Arc::clone(&most));
        let worker = scene.worker(Retries { at_once: 2, ..Retries::default() }, move |_| {
            let (under_way, most) = counted.clone();
            async move {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                Verdict::Done
            }
        });
        assert_eq!(worker.work_once().await.unwrap(), 5);
        assert_eq!((most.load(Ordering::SeqCst), worker.counts().done), (2, 5));
    }

    #[tokio::test]
    async fn running_ends_with_what_was_begun() {
        let scene = Scene::new();
        let (began, mut begun) = mpsc::unbounded_channel();
        let finish = Arc::new(Notify::new());
        let waited = Arc::clone(&finish);
        let worker = Arc::new(scene.worker(Retries::default(), move |job| {
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
        assert_eq!(scene.queue.depths().await.unwrap()[0].waiting, 1, "nothing new was begun");
    }
}
