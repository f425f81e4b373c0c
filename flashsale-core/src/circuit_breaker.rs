//! A circuit breaker, which stops calling a failing remote dependency and says when to retry.
//!
//! A *closed* breaker lets every call through and remembers the latest results. If too many are
//! failures, it *opens* and rejects calls at once, so that nobody waits for a timeout. Later it is
//! *half-open* and lets some probes through: if all succeed it closes, otherwise it reopens.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::domain::{Clock, Invalid, Timestamp};

/// The retry time for callers that a half-open breaker rejects while its probes are running.
const PROBE_RETRY: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    calls: u32,
    failures: u32,
    open_for: Duration,
    probes: u32,
}

impl BreakerOptions {
    /// The maximum number of calls that a breaker remembers: 64.
    pub const MAX_CALLS: u32 = u64::BITS;

    /// Creates options to open when `failures` of the last `calls` failed, to probe after
    /// `open_for`, and to close after `probes` successes; at most that many probes are let through.
    ///
    /// # Errors
    /// [`Invalid`] if `open_for` < 1 ms, or not `1 ≤ failures ≤ calls ≤ 64` and `1 ≤ probes ≤ 64`.
    pub fn new(calls: u32, failures: u32, open_for: Duration, probes: u32) -> Result<Self, Invalid> {
        if !(1..=Self::MAX_CALLS).contains(&calls) {
            return Err(Invalid::new("calls", "must be 1 to 64"));
        }
        if !(1..=calls).contains(&failures) {
            return Err(Invalid::new("failures", "must be 1 to the number of calls"));
        }
        if open_for < Duration::from_millis(1) {
            return Err(Invalid::new("open_for", "must be at least 1 ms"));
        }
        if !(1..=Self::MAX_CALLS).contains(&probes) {
            return Err(Invalid::new("probes", "must be 1 to 64"));
        }
        Ok(Self { calls, failures, open_for, probes })
    }
}

impl Default for BreakerOptions {
    /// Ten failures among the last twenty calls, ten seconds, three probes.
    fn default() -> Self {
        Self { calls: 20, failures: 10, open_for: Duration::from_secs(10), probes: 3 }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// All calls are let through.
    Closed,
    /// A few calls are let through as probes.
    HalfOpen,
    /// No calls are let through.
    Open,
}

/// A snapshot of a breaker and its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerReading {
    /// The state that a call would find now.
    pub state: BreakerState,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were rejected.
    pub rejected: u64,
}

/// The rejection of a call, which was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many calls failed; retry in {} ms", retry_after.as_millis())]
pub struct Rejected {
    /// The time until the next call may be let through.
    pub retry_after: Duration,
}

/// A circuit breaker for one remote dependency.
pub struct Breaker {
    name: String,
    options: BreakerOptions,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

/// The state and its generation.
#[derive(Debug)]
struct Inner {
    /// Increases with every change of state, so that calls from an earlier state are ignored.
    generation: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The results of the last calls, the latest in the lowest bit; 1 is a failure.
    Closed {
        history: u64,
    },
    HalfOpen {
        running: u32,
        succeeded: u32,
    },
    Open {
        since: Timestamp,
    },
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallResult {
    Succeeded,
    Failed,
    /// Dropped without a result.
    Abandoned,
}

impl Breaker {
    /// Creates a closed breaker; `name` identifies the dependency in logs and metrics.
    pub fn new(name: impl Into<String>, options: BreakerOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.into(),
            options,
            clock,
            inner: Mutex::new(Inner { generation: 0, phase: Phase::Closed { history: 0 } }),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Returns the name of the dependency.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets a call through or rejects it. Report the result to the permit; dropping the permit
    /// unreported has no effect, except that it frees the slot of a probe.
    ///
    /// # Errors
    /// [`Rejected`], with the time until a retry.
    pub fn enter(&self) -> Result<Permit<'_>, Rejected> {
        let now = self.clock.now();
        let mut inner = self.inner();
        if self.open_remaining(&mut inner, now).is_some_and(|remaining| remaining.is_zero()) {
            inner.change(Phase::HalfOpen { running: 0, succeeded: 0 });
        }
        let retry_after = match &mut inner.phase {
            Phase::Closed { .. } => None,
            Phase::HalfOpen { running, succeeded } if *running + *succeeded < self.options.probes => {
                *running += 1;
                None
            }
            Phase::HalfOpen { .. } => Some(PROBE_RETRY),
            Phase::Open { .. } => self.open_remaining(&mut inner, now),
        };
        match retry_after {
            None => Ok(Permit { breaker: self, generation: inner.generation, is_reported: false }),
            Some(retry_after) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                Err(Rejected { retry_after })
            }
        }
    }

    /// Returns the current state and counters.
    pub fn read(&self) -> BreakerReading {
        let now = self.clock.now();
        let mut inner = self.inner();
        let state = match (self.open_remaining(&mut inner, now), &inner.phase) {
            (Some(remaining), _) if !remaining.is_zero() => BreakerState::Open,
            (_, Phase::Closed { .. }) => BreakerState::Closed,
            _ => BreakerState::HalfOpen,
        };
        BreakerReading {
            state,
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// Returns how long the breaker stays open, if it is; resetting the clock does not extend it.
    fn open_remaining(&self, inner: &mut Inner, now: Timestamp) -> Option<Duration> {
        let Phase::Open { since } = &mut inner.phase else { return None };
        *since = now.min(*since);
        Some(self.options.open_for.saturating_sub(now.since(*since)))
    }

    fn record(&self, generation: u64, result: CallResult) {
        match result {
            CallResult::Succeeded => self.succeeded.fetch_add(1, Ordering::Relaxed),
            CallResult::Failed => self.failed.fetch_add(1, Ordering::Relaxed),
            CallResult::Abandoned => 0,
        };
        let now = self.clock.now();
        let mut inner = self.inner();
        if inner.generation != generation {
            return;
        }
        let BreakerOptions { calls, failures, open_for, probes } = self.options;
        match &mut inner.phase {
            Phase::Closed { history } if result != CallResult::Abandoned => {
                let kept = u64::MAX >> (u64::BITS - calls);
                *history = (*history << 1 | u64::from(result == CallResult::Failed)) & kept;
                if history.count_ones() >= failures {
                    inner.change(Phase::Open { since: now });
                    drop(inner);
                    let retry_ms = open_for.as_millis();
                    tracing::error!(dependency = %self.name, failures, calls, retry_ms, "a breaker has opened");
                }
            }
            Phase::HalfOpen { running, succeeded } => {
                *running -= 1;
                *succeeded += u32::from(result == CallResult::Succeeded);
                let is_over = *succeeded >= probes;
                if result == CallResult::Failed {
                    inner.change(Phase::Open { since: now });
                    drop(inner);
                    tracing::debug!(dependency = %self.name, "a probe failed; the breaker opens again");
                } else if is_over {
                    inner.change(Phase::Closed { history: 0 });
                    drop(inner);
                    tracing::info!(dependency = %self.name, probes, "a breaker has closed");
                }
            }
            Phase::Closed { .. } | Phase::Open { .. } => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.name).field("reading", &self.read()).finish()
    }
}

impl Inner {
    fn change(&mut self, phase: Phase) {
        *self = Self { generation: self.generation + 1, phase };
    }
}

/// Permission for a call through a [`Breaker`].
#[derive(Debug)]
#[must_use = "dropping the permit returns it unused"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    is_reported: bool,
}

impl Permit<'_> {
    /// Reports that the call was answered, whatever the answer.
    pub fn succeeded(mut self) {
        self.report(CallResult::Succeeded);
    }

    /// Reports that the call failed or timed out.
    pub fn failed(mut self) {
        self.report(CallResult::Failed);
    }

    fn report(&mut self, result: CallResult) {
        self.is_reported = true;
        self.breaker.record(self.generation, result);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_reported {
            self.breaker.record(self.generation, CallResult::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::domain::ManualClock;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    /// Three failures among five calls open it; two probes close it.
    fn breaker() -> (Breaker, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let options = BreakerOptions::new(5, 3, OPEN_FOR, 2).unwrap();
        (Breaker::new("payment/test", options, Arc::clone(&clock) as _), clock)
    }

    fn succeed(breaker: &Breaker) {
        breaker.enter().unwrap().succeeded();
    }

    fn fail(breaker: &Breaker) {
        breaker.enter().unwrap().failed();
    }

    fn opened() -> (Breaker, Arc<ManualClock>) {
        let (breaker, clock) = breaker();
        (0..3).for_each(|_| fail(&breaker));
        assert_eq!(breaker.read().state, BreakerState::Open);
        (breaker, clock)
    }

    #[track_caller]
    fn expect_rejected(breaker: &Breaker, retry_after: Duration) {
        assert_eq!(breaker.enter().unwrap_err(), Rejected { retry_after });
    }

    #[test]
    fn it_opens_when_too_many_of_the_last_calls_failed() {
        let (breaker, _) = breaker();
        for _ in 0..4 {
            // Two of any five consecutive calls fail.
            [fail, succeed, fail, succeed, succeed].iter().for_each(|call| call(&breaker));
            assert_eq!(breaker.read().state, BreakerState::Closed);
        }
        fail(&breaker);
        assert_eq!(breaker.read().state, BreakerState::Closed, "two of the last five");
        fail(&breaker);
        assert_eq!(breaker.read().state, BreakerState::Open);
    }

    #[test]
    fn it_remembers_no_more_than_64_calls() {
        let clock = Arc::new(ManualClock::default());
        let breaker = Breaker::new("all", BreakerOptions::new(64, 64, OPEN_FOR, 1).unwrap(), clock);
        succeed(&breaker);
        (0..63).for_each(|_| fail(&breaker));
        assert_eq!(breaker.read().state, BreakerState::Closed);
        fail(&breaker);
        assert_eq!(breaker.read().state, BreakerState::Open);
    }

    #[test]
    fn an_open_breaker_rejects_with_a_retry_time() {
        let (breaker, clock) = opened();
        expect_rejected(&breaker, OPEN_FOR);
        clock.advance(Duration::from_millis(9_999));
        expect_rejected(&breaker, Duration::from_millis(1));
        assert_eq!(breaker.read().state, BreakerState::Open);
        clock.advance(Duration::from_millis(1));
        assert_eq!(breaker.read().state, BreakerState::HalfOpen);
        succeed(&breaker);
        let reading = BreakerReading { state: BreakerState::HalfOpen, succeeded: 1, failed: 3, rejected: 2 };
        assert_eq!(breaker.read(), reading);
    }

    #[test]
    fn a_half_open_breaker_lets_only_probes_through() {
        let (breaker, clock) = opened();
        clock.advance(OPEN_FOR);
        let probes = [breaker.enter().unwrap(), breaker.enter().unwrap()];
        expect_rejected(&breaker, PROBE_RETRY);
        let [first, second] = probes;
        first.succeeded();
        expect_rejected(&breaker, PROBE_RETRY);
        second.succeeded();
        assert_eq!(breaker.read().state, BreakerState::Closed);
        // Results from before it opened are forgotten.
        (0..2).for_each(|_| fail(&breaker));
        assert_eq!(breaker.read().state, BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_for_the_whole_time() {
        let (breaker, clock) = opened();
        clock.advance(OPEN_FOR);
        let slow = breaker.enter().unwrap();
        fail(&breaker);
        expect_rejected(&breaker, OPEN_FOR);
        // The other probe belongs to an earlier generation.
        slow.succeeded();
        expect_rejected(&breaker, OPEN_FOR);
        clock.advance(OPEN_FOR);
        succeed(&breaker);
        succeed(&breaker);
        assert_eq!(breaker.read().state, BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_is_dropped_gives_its_place_back() {
        let (breaker, clock) = opened();
        clock.advance(OPEN_FOR);
        for _ in 0..10 {
            drop([breaker.enter().unwrap(), breaker.enter().unwrap()]);
            assert_eq!(breaker.read().state, BreakerState::HalfOpen);
        }
        succeed(&breaker);
        drop(breaker.enter().unwrap());
        succeed(&breaker);
        assert_eq!(breaker.read().state, BreakerState::Closed);
    }

    #[test]
    fn dropped_and_late_calls_change_nothing() {
        let (breaker, clock) = breaker();
        (0..9).for_each(|_| drop(breaker.enter().unwrap()));
        assert_eq!(breaker.read().state, BreakerState::Closed);
        let late: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
        (0..3).for_each(|_| fail(&breaker));
        clock.advance(OPEN_FOR);
        succeed(&breaker);
        succeed(&breaker);
        late.into_iter().for_each(Permit::failed);
        assert_eq!(breaker.read().state, BreakerState::Closed, "they began before it opened");
        assert_eq!(breaker.read().failed, 7, "and are counted");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_keep_it_open() {
        let (breaker, clock) = opened();
        clock.set(Timestamp::from_millis(1_000));
        expect_rejected(&breaker, OPEN_FOR);
        clock.advance(OPEN_FOR);
        succeed(&breaker);
    }

    #[test]
    fn threads_get_no_more_probes_than_there_are() {
        let (breaker, clock) = opened();
        clock.advance(OPEN_FOR);
        let barrier = Barrier::new(8);
        let count = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let permit = breaker.enter();
                    count.fetch_add(u64::from(permit.is_ok()), Ordering::SeqCst);
                    // No thread frees its slot before all have asked.
                    barrier.wait();
                    if let Ok(permit) = permit {
                        permit.succeeded();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 2);
        let reading = breaker.read();
        assert_eq!((reading.state, reading.rejected), (BreakerState::Closed, 6));
    }

    #[test]
    fn options_have_their_ranges() {
        let ms = Duration::from_millis;
        for (calls, failures, open_for, probes, field) in [
            (0, 1, ms(1), 1, "calls"),
            (65, 1, ms(1), 1, "calls"),
            (5, 0, ms(1), 1, "failures"),
            (5, 6, ms(1), 1, "failures"),
            (5, 5, Duration::from_micros(999), 1, "open_for"),
            (5, 5, ms(1), 0, "probes"),
            (5, 5, ms(1), 65, "probes"),
        ] {
            assert_eq!(BreakerOptions::new(calls, failures, open_for, probes).unwrap_err().field, field);
        }
        let default = BreakerOptions::default();
        let BreakerOptions { calls, failures, open_for, probes } = default;
        assert_eq!(BreakerOptions::new(calls, failures, open_for, probes), Ok(default));
    }
}
