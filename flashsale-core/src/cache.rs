//! A process-local cache with single flight, time to live and negative entries.
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//!
//! use flashsale_core::{
//!     cache::{Cache, CacheOptions},
//!     domain::SystemClock,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let levels = Cache::new(CacheOptions::default(), Arc::new(SystemClock));
//! // Your service would query a database here; `None` is also cached, but for a shorter time.
//! let level = levels.get(&7_u64, async { Ok::<_, Infallible>(Some(3_u8)) }).await;
//! assert_eq!(level, Ok(Some(3)));
//! assert_eq!(levels.known(&7), Some(Some(3)));
//! levels.forget(&7);
//! assert_eq!(levels.known(&7), None);
//! # }
//! ```

use std::{
    collections::VecDeque,
    fmt,
    hash::Hash,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync as quick;
use tokio::sync::Semaphore;

use crate::domain::{Clock, Timestamp};

/// The bounds and lifetimes of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The maximum number of values; less frequently used ones are evicted. Default 10,000.
    pub values: NonZeroUsize,
    /// The maximum lifetime of a value. Default 60 s.
    pub life: Duration,
    /// The maximum number of keys known to have no value; the oldest are evicted. They have their
    /// own space, so lookups of missing keys evict no values. Default 1,000.
    pub absences: NonZeroUsize,
    /// The maximum lifetime of a missing key. Default 5 s.
    pub absence_life: Duration,
    /// The maximum random reduction of a lifetime in percent, capped at 100. Entries loaded
    /// together then do not expire together. Default 10.
    pub jitter_percent: u8,
    /// The maximum number of concurrent loads; others wait. Default 16.
    pub loads: NonZeroU32,
    /// The seed of the random lifetimes. Default 0.
    pub seed: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            values: NonZeroUsize::new(10_000).expect("not 0"),
            life: Duration::from_secs(60),
            absences: NonZeroUsize::new(1_000).expect("not 0"),
            absence_life: Duration::from_secs(5),
            jitter_percent: 10,
            loads: NonZeroU32::new(16).expect("not 0"),
            seed: 0,
        }
    }
}

/// The reason why a [`Cache`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError<E> {
    /// The load of this call failed.
    #[error(transparent)]
    Failed(E),
    /// This call waited for another call's load, which failed; that call has the reason.
    #[error("the load that this call waited for failed")]
    Awaited,
}

/// The metrics of a [`Cache`] since its creation.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// Calls answered from the cache.
    pub hits: AtomicU64,
    /// Calls that loaded or waited for a load.
    pub misses: AtomicU64,
    /// Loads started.
    pub loads: AtomicU64,
    /// Loads failed.
    pub failures: AtomicU64,
    /// Loads whose value was not cached because its key was forgotten meanwhile.
    pub stale: AtomicU64,
}

/// A bounded cache of values that expire.
///
/// - **Single flight.** Of concurrent calls for an uncached key, one loads and the others wait. If
///   it fails, all fail, so a source that is down is asked only once. The next call loads again.
/// - **Cancellation.** Dropping the loading call drops its load, and a waiting call loads instead.
///   Spawn the call as a task if loads must finish.
/// - **Invalidation.** [`forget`](Self::forget) also rejects running loads of the key: callers
///   waiting for one get its value, but it is not cached. So write first, then forget: later calls
///   never get the old value.
/// - **No timeouts.** A load, and callers waiting for it, may wait forever: give it a timeout.
pub struct Cache<K, V> {
    slots: quick::Cache<K, Slot<V>>,
    /// Missing keys, latest last. A key may be listed twice, or have a value by now.
    absences: Mutex<VecDeque<K>>,
    loads: Semaphore,
    random: Mutex<fastrand::Rng>,
    options: CacheOptions,
    clock: Arc<dyn Clock>,
    metrics: CacheMetrics,
}

#[derive(Clone, Debug)]
struct Slot<V> {
    content: Content<V>,
    since: Timestamp,
    until: Timestamp,
}

#[derive(Clone, Debug)]
enum Content<V> {
    Value(V),
    Absent,
    /// Tells waiting callers of a failed load; removed immediately afterwards.
    Failed,
}

impl<V> Slot<V> {
    /// Returns whether the slot is usable: not expired, nor from the future of a reset clock.
    fn is_fresh(&self, now: Timestamp) -> bool {
        (self.since..self.until).contains(&now) && !matches!(self.content, Content::Failed)
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Creates an empty cache.
    pub fn new(options: CacheOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            slots: quick::Cache::new(options.values.get().saturating_add(options.absences.get())),
            absences: Mutex::default(),
            loads: Semaphore::new(options.loads.get() as usize),
            random: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            options,
            clock,
            metrics: CacheMetrics::default(),
        }
    }

    /// Returns the value of a key, if it has one. Runs `load` only if the key is not cached.
    ///
    /// # Errors
    /// [`LoadError`] if a load fails; failures are not cached.
    pub async fn get<E>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, LoadError<E>> {
        if let Some(known) = self.known(key) {
            return Ok(known);
        }
        count(&self.metrics.misses);
        let guard = loop {
            let slot = match self.slots.get_value_or_guard_async(key).await {
                Err(guard) => break guard,
                Ok(slot) => slot,
            };
            let now = self.clock.now();
            match slot.content {
                Content::Failed => return Err(LoadError::Awaited),
                _ if !slot.is_fresh(now) => {
                    self.slots.remove_if(key, |slot| !slot.is_fresh(now));
                }
                Content::Value(value) => return Ok(Some(value)),
                Content::Absent => return Ok(None),
            }
        };
        let _permit = self.loads.acquire().await.unwrap_or_else(|_| unreachable!("never closed"));
        count(&self.metrics.loads);
        let loaded = load.await;
        let content = match &loaded {
            Ok(Some(value)) => Content::Value(value.clone()),
            Ok(None) => Content::Absent,
            Err(_) => Content::Failed,
        };
        let is_kept = guard.insert(self.slot(content)).is_ok();
        match &loaded {
            Err(_) => {
                count(&self.metrics.failures);
                self.slots.remove_if(key, |slot| matches!(slot.content, Content::Failed));
            }
            Ok(_) if !is_kept => count(&self.metrics.stale),
            Ok(None) => self.record_absence(key),
            Ok(Some(_)) => {}
        }
        loaded.map_err(LoadError::Failed)
    }

    /// Returns the cached state of a key: its value, or `Some(None)` for a missing key.
    pub fn known(&self, key: &K) -> Option<Option<V>> {
        let slot = self.slots.get(key).filter(|slot| slot.is_fresh(self.clock.now()))?;
        count(&self.metrics.hits);
        match slot.content {
            Content::Value(value) => Some(Some(value)),
            Content::Absent | Content::Failed => Some(None),
        }
    }

    /// Removes a key and rejects running loads of it; call it after changing the value.
    pub fn forget(&self, key: &K) {
        // Also removes the placeholder of a running load, so that its insert fails.
        self.slots.remove(key);
    }

    /// Removes all keys, as [`forget`](Self::forget) does.
    pub fn forget_all(&self) {
        self.slots.clear();
    }

    /// Returns the number of cached keys, including missing ones.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether no key is cached.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the bounds and lifetimes.
    pub fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.metrics
    }

    fn slot(&self, content: Content<V>) -> Slot<V> {
        let since = self.clock.now();
        let life = match content {
            Content::Value(_) => self.options.life,
            Content::Absent => self.options.absence_life,
            Content::Failed => Duration::ZERO,
        };
        let part = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        let shorter = f64::from(self.options.jitter_percent.min(100)) / 100.0 * part;
        Slot { content, since, until: since.after(life.mul_f64(1.0 - shorter)) }
    }

    fn record_absence(&self, key: &K) {
        let oldest = {
            let mut absences = self.absences.lock().unwrap_or_else(PoisonError::into_inner);
            absences.push_back(key.clone());
            if absences.len() > self.options.absences.get() { absences.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.slots.remove_if(&oldest, |slot| matches!(slot.content, Content::Absent));
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, metrics, .. } = self;
        f.debug_struct("Cache").field("options", options).field("metrics", metrics).finish_non_exhaustive()
    }
}

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        collections::HashSet,
        convert::Infallible,
        future::poll_fn,
        pin::Pin,
        rc::Rc,
        task::{Context, Poll, Waker},
    };

    use proptest::prelude::*;
    use tokio::{
        sync::{oneshot, watch},
        task::yield_now,
    };

    use super::*;
    use crate::domain::ManualClock;

    const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn cache(change: impl FnOnce(&mut CacheOptions)) -> (Arc<Cache<u64, u64>>, Arc<ManualClock>) {
        let mut options = CacheOptions { jitter_percent: 0, ..CacheOptions::default() };
        change(&mut options);
        let clock = Arc::new(ManualClock::new(START));
        (Arc::new(Cache::new(options, Arc::clone(&clock) as _)), clock)
    }

    async fn gives(value: Option<u64>) -> Result<Option<u64>, Infallible> {
        Ok(value)
    }

    fn counted(cache: &Cache<u64, u64>) -> [u64; 5] {
        let CacheMetrics { hits, misses, loads, failures, stale } = cache.metrics();
        [hits, misses, loads, failures, stale].map(|number| number.load(Ordering::Relaxed))
    }

    /// Starts a call whose load waits for a signal, and returns the call's result.
    fn call(
        cache: &Arc<Cache<u64, u64>>,
        gate: &watch::Receiver<Option<Result<u64, &'static str>>>,
    ) -> tokio::task::JoinHandle<Result<Option<u64>, LoadError<&'static str>>> {
        let (cache, mut gate) = (Arc::clone(cache), gate.clone());
        tokio::spawn(async move {
            let load = async move {
                let result = gate.wait_for(Option::is_some).await.unwrap().unwrap();
                result.map(Some)
            };
            cache.get(&7, load).await
        })
    }

    async fn until_missed(cache: &Cache<u64, u64>, misses: u64) {
        while counted(cache)[1] < misses {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn concurrent_calls_load_once() {
        let (cache, _) = cache(|_| {});
        let (open, gate) = watch::channel(None);
        let calls: Vec<_> = (0..64).map(|_| call(&cache, &gate)).collect();
        until_missed(&cache, 64).await;
        open.send_replace(Some(Ok(1)));
        for call in calls {
            assert_eq!(call.await.unwrap(), Ok(Some(1)));
        }
        assert_eq!(cache.get(&7, gives(Some(2))).await, Ok(Some(1)));
        assert_eq!(counted(&cache), [1, 64, 1, 0, 0]);
    }

    #[tokio::test]
    async fn a_failed_load_fails_all_who_wait_and_the_next_call_loads_again() {
        let (cache, _) = cache(|_| {});
        let (open, gate) = watch::channel(None);
        let calls: Vec<_> = (0..64).map(|_| call(&cache, &gate)).collect();
        until_missed(&cache, 64).await;
        open.send_replace(Some(Err("down")));
        let mut reasons = 0;
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert!([LoadError::Failed("down"), LoadError::Awaited].contains(&error));
            reasons += usize::from(error != LoadError::Awaited);
        }
        assert_eq!((reasons, counted(&cache)), (1, [0, 64, 1, 1, 0]));
        assert!(cache.is_empty());
        assert_eq!(cache.get(&7, gives(Some(2))).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn a_dropped_load_is_taken_over_by_one_who_waits() {
        let (cache, _) = cache(|_| {});
        let (open, gate) = watch::channel(None);
        let first = call(&cache, &gate);
        until_missed(&cache, 1).await;
        let others: Vec<_> = (0..63).map(|_| call(&cache, &gate)).collect();
        until_missed(&cache, 64).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        open.send_replace(Some(Ok(1)));
        for call in others {
            assert_eq!(call.await.unwrap(), Ok(Some(1)));
        }
        assert_eq!(counted(&cache), [0, 64, 2, 0, 0]);
    }

    #[tokio::test]
    async fn a_panic_in_a_load_strands_nobody() {
        let (cache, _) = cache(|_| {});
        let (go, gone) = oneshot::channel::<()>();
        let panicking = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move {
                let load = async {
                    gone.await.unwrap();
                    panic!("expected by a test");
                };
                cache.get::<Infallible>(&7, load).await
            }
        });
        until_missed(&cache, 1).await;
        let waiting = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.get(&7, gives(Some(1))).await }
        });
        until_missed(&cache, 2).await;
        go.send(()).unwrap();
        assert!(panicking.await.unwrap_err().is_panic());
        assert_eq!(waiting.await.unwrap(), Ok(Some(1)));
    }

    #[tokio::test]
    async fn values_and_absences_expire() {
        let (cache, clock) = cache(|options| (options.life, options.absence_life) = (10 * SECOND, SECOND));
        assert_eq!(cache.get(&1, gives(Some(1))).await, Ok(Some(1)));
        assert_eq!(cache.get(&2, gives(None)).await, Ok(None));
        assert_eq!((cache.known(&1), cache.known(&2)), (Some(Some(1)), Some(None)));
        clock.advance(SECOND);
        assert_eq!((cache.known(&1), cache.known(&2)), (Some(Some(1)), None));
        assert_eq!(cache.get(&2, gives(Some(2))).await, Ok(Some(2)));
        clock.advance(9 * SECOND);
        assert_eq!(cache.get(&1, gives(Some(3))).await, Ok(Some(3)));
        // Setting the clock back extends no lifetime.
        clock.set(START);
        assert_eq!(cache.known(&1), None);
    }

    #[tokio::test]
    async fn lives_are_shortened_by_different_parts_of_the_jitter() {
        let (cache, clock) = cache(|options| (options.life, options.jitter_percent) = (100 * SECOND, 20));
        for key in 0..1_000 {
            cache.get(&key, gives(Some(key))).await.unwrap();
        }
        let known = || (0..1_000).filter(|key| cache.known(key).is_some()).count();
        clock.advance(80 * SECOND - Duration::from_millis(1));
        assert_eq!(known(), 1_000);
        clock.advance(10 * SECOND);
        assert!((400..600).contains(&known()), "{} of 1,000 after nine tenths", known());
        clock.advance(10 * SECOND + Duration::from_millis(1));
        assert_eq!(known(), 0);
    }

    #[tokio::test]
    async fn absences_are_bounded_and_drive_no_value_out() {
        let bound = |bound| NonZeroUsize::new(bound).unwrap();
        let (cache, _) = cache(|options| (options.values, options.absences) = (bound(1_000), bound(10)));
        for key in 0..100 {
            cache.get(&key, gives(Some(key))).await.unwrap();
        }
        for key in 1_000..50_000 {
            cache.get(&key, gives(None)).await.unwrap();
        }
        assert_eq!(cache.len(), 110);
        assert!((0..100).all(|key| cache.known(&key) == Some(Some(key))));
        assert!((49_990..50_000).all(|key| cache.known(&key) == Some(None)), "the latest stay");
        for key in 0..50_000 {
            cache.get(&key, gives(Some(key))).await.unwrap();
        }
        assert!(cache.len() <= 1_010 + 64, "{}", cache.len());
    }

    #[tokio::test]
    async fn concurrent_loads_are_bounded() {
        let (cache, _) = cache(|options| options.loads = NonZeroU32::new(2).unwrap());
        let (open, gate) = watch::channel(false);
        let tasks: Vec<_> = (0..10)
            .map(|key| {
                let (cache, mut gate) = (Arc::clone(&cache), gate.clone());
                tokio::spawn(async move {
                    let load = async {
                        gate.wait_for(|open| *open).await.unwrap();
                        Ok::<_, Infallible>(Some(key))
                    };
                    cache.get(&key, load).await
                })
            })
            .collect();
        until_missed(&cache, 10).await;
        assert_eq!(counted(&cache), [0, 10, 2, 0, 0]);
        open.send_replace(true);
        for (key, task) in (0..10).zip(tasks) {
            assert_eq!(task.await.unwrap(), Ok(Some(key)));
        }
    }

    #[tokio::test]
    async fn what_is_forgotten_during_its_load_is_not_kept() {
        for forgets_all in [false, true] {
            let (cache, _) = cache(|_| {});
            let (open, gate) = watch::channel(None);
            let calls = [call(&cache, &gate), call(&cache, &gate)];
            until_missed(&cache, 2).await;
            if forgets_all {
                cache.forget_all()
            } else {
                cache.forget(&7)
            }
            // A new call does not wait for the old load.
            assert_eq!(cache.get(&7, gives(Some(2))).await, Ok(Some(2)));
            open.send_replace(Some(Ok(1)));
            for call in calls {
                assert_eq!(call.await.unwrap(), Ok(Some(1)));
            }
            assert_eq!(cache.known(&7), Some(Some(2)));
            assert_eq!(counted(&cache), [1, 3, 2, 0, 1]);
        }
    }

    /// A step in a history of calls for one key.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A call begins.
        Begin,
        /// The load of a call, if it has one, reads the source.
        Read(usize),
        /// The load ends, successfully or not.
        End(usize, bool),
        /// A call is dropped.
        Drop(usize),
        /// The source changes, and the key is forgotten.
        Change,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Begin),
            Just(Step::Begin),
            (0..8_usize).prop_map(Step::Read),
            (0..8_usize, any::<bool>()).prop_map(|(call, ends_well)| Step::End(call, ends_well)),
            (0..8_usize).prop_map(Step::Drop),
            Just(Step::Change),
        ];
        prop::collection::vec(step, 1..60)
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Phase {
        Waits,
        Reads,
        Ends(bool),
    }

    type Loaded = Result<Option<u64>, LoadError<()>>;

    struct Call<'a> {
        running: Pin<Box<dyn Future<Output = Loaded> + 'a>>,
        phase: Rc<Cell<Phase>>,
        /// The value at the source when the call began.
        least: u64,
    }

    impl<'a> Call<'a> {
        fn begin(cache: &'a Cache<u64, u64>, truth: &'a Cell<u64>) -> Self {
            let phase = Rc::new(Cell::new(Phase::Waits));
            let told = Rc::clone(&phase);
            let load = async move {
                reached(&told, |phase| phase != Phase::Waits).await;
                let value = truth.get();
                reached(&told, |phase| matches!(phase, Phase::Ends(_))).await;
                if told.get() == Phase::Ends(true) { Ok(Some(value)) } else { Err(()) }
            };
            let running = Box::pin(async move { cache.get(&7, load).await });
            Self { running, phase, least: truth.get() }
        }

        /// Polls the call and returns whether it has ended.
        fn has_ended(&mut self) -> bool {
            match self.running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => false,
                Poll::Ready(Err(_)) => true,
                Poll::Ready(Ok(value)) => {
                    assert!(value.unwrap() >= self.least, "{value:?}, and at its begin {}", self.least);
                    true
                }
            }
        }
    }

    fn reached(phase: &Cell<Phase>, is_reached: fn(Phase) -> bool) -> impl Future<Output = ()> {
        poll_fn(move |_| if is_reached(phase.get()) { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Polls all calls until none makes progress.
    fn run(calls: &mut [Option<Call<'_>>]) {
        // A call that ends may wake others: poll once per call.
        for _ in 0..=calls.len() {
            for entry in calls.iter_mut() {
                if entry.as_mut().is_some_and(Call::has_ended) {
                    *entry = None;
                }
            }
        }
    }

    proptest! {
        /// For every interleaving: no call gets a value from before it began, no call is stranded,
        /// and the cache ends up with the current value.
        #[test]
        fn every_interleaving_gives_what_was_there_since_the_call_began(steps in steps()) {
            let (cache, _) = cache(|_| {});
            let truth = Cell::new(0_u64);
            let mut calls: Vec<Option<Call<'_>>> = Vec::new();
            for step in steps {
                match step {
                    Step::Begin => calls.push(Some(Call::begin(&cache, &truth))),
                    Step::Read(index) => {
                        let call = calls.get(index).and_then(Option::as_ref);
                        if let Some(call) = call.filter(|call| call.phase.get() == Phase::Waits) {
                            call.phase.set(Phase::Reads);
                        }
                    }
                    Step::End(index, ends_well) => {
                        if let Some(Some(call)) = calls.get(index) {
                            call.phase.set(Phase::Ends(ends_well));
                        }
                    }
                    Step::Drop(index) => {
                        if let Some(entry) = calls.get_mut(index) {
                            *entry = None;
                        }
                    }
                    Step::Change => {
                        truth.set(truth.get() + 1);
                        cache.forget(&7);
                    }
                }
                run(&mut calls);
            }
            calls.iter().flatten().for_each(|call| call.phase.set(Phase::Ends(true)));
            run(&mut calls);
            prop_assert_eq!(calls.iter().flatten().count(), 0, "stranded");
            let mut last = Call::begin(&cache, &truth);
            last.phase.set(Phase::Ends(true));
            prop_assert!(last.has_ended());
            prop_assert_eq!(cache.known(&7), Some(Some(truth.get())));
        }
    }

    #[test]
    fn seeds_give_different_lives() {
        let lives: HashSet<_> = [1, 2]
            .map(|seed| cache(|options| (options.jitter_percent, options.seed) = (50, seed)).0)
            .map(|cache| cache.slot(Content::Value(1)).until)
            .into();
        assert_eq!(lives.len(), 2);
    }
}
