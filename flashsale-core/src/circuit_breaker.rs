//! A circuit breaker: leaves something remote alone while it fails, and says when to try again.
//!
//! *Closed*, it lets every call through and remembers how the last ones ended. When too many of them failed it *opens*: calls
//! are rejected at once, so that nobody waits for an answer that does not come. After a while it is *half-open*: a few
//! calls are let through as probes. When all of them succeeded it closes; one that fails opens it again.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::domain::{Clock, Invalid, Timestamp};

/// When somebody is to come again who meets a half-open breaker whose probes are all under way.
const WHILE_PROBED: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    calls: u32,
    failures: u32,
    open_for: Duration,
    probes: u32,
}

impl BreakerOptions {
    /// The last calls that can be remembered.
    pub const MAX_CALLS: u32 = u64::BITS;

    /// Opens when `failures` of the last `calls` failed; lets probes through after `open_for`; closes when `probes` of them
    /// succeeded, and lets no more than those through meanwhile.
    ///
    /// # Errors
    /// [`Invalid`] unless `calls` is 1 to 64, `failures` 1 to `calls`, `probes` 1 to 64 and `open_for` at least 1 ms.
    pub fn new(calls: u32, failures: u32, open_for: Duration, probes: u32) -> Result<Self, Invalid> {
        if !(1..=Self::MAX_CALLS).contains(&calls) {
            return Err(Invalid::new("calls", "has to be 1 to 64"));
        }
        if !(1..=calls).contains(&failures) {
            return Err(Invalid::new("failures", "has to be 1 to the number of calls"));
        }
        if open_for < Duration::from_millis(1) {
            return Err(Invalid::new("open_for", "has to be at least 1 ms"));
        }
        if !(1..=Self::MAX_CALLS).contains(&probes) {
            return Err(Invalid::new("probes", "has to be 1 to 64"));
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

/// Whether calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// All of them.
    Closed,
    /// A few, as probes.
    HalfOpen,
    /// None.
    Open,
}

/// A breaker, and what it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerReading {
    /// What a call would meet now.
    pub state: BreakerState,
    /// Calls that were answered.
    pub succeeded: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were not let through.
    pub rejected: u64,
}

/// A call was not let through; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many calls failed; it is left alone for {} ms more", retry_after.as_millis())]
pub struct Rejected {
    /// When the next call may be let through.
    pub retry_after: Duration,
}

/// Stands in front of one remote dependency.
pub struct Breaker {
    name: String,
    options: BreakerOptions,
    clock: Arc<dyn Clock>,
    turn: Mutex<Turn>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

/// What a breaker is between two changes of its state.
#[derive(Debug)]
struct Turn {
    /// Grows with every change, so that a call that ends later than its turn moves nothing.
    number: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// How the last calls ended, the latest in the lowest bit; 1 is a failure.
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

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Succeeded,
    Failed,
    /// Dropped before anybody knew.
    Abandoned,
}

impl Breaker {
    /// A closed breaker; `name` says in logs and metrics what it stands in front of.
    pub fn new(name: impl Into<String>, options: BreakerOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.into(),
            options,
            clock,
            turn: Mutex::new(Turn { number: 0, phase: Phase::Closed { history: 0 } }),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// What it stands in front of.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets a call through, or not. The permit is told how the call ended; one that is dropped untold moves nothing, and
    /// gives the place of a probe back.
    ///
    /// # Errors
    /// [`Rejected`], with the time after which to try again.
    pub fn enter(&self) -> Result<Permit<'_>, Rejected> {
        let now = self.clock.now();
        let mut turn = self.turn();
        if self.left(&mut turn, now).is_some_and(|left| left.is_zero()) {
            turn.change(Phase::HalfOpen { running: 0, succeeded: 0 });
        }
        let retry_after = match &mut turn.phase {
            Phase::Closed { .. } => None,
            Phase::HalfOpen { running, succeeded } if *running + *succeeded < self.options.probes => {
                *running += 1;
                None
            }
            Phase::HalfOpen { .. } => Some(WHILE_PROBED),
            Phase::Open { .. } => self.left(&mut turn, now),
        };
        match retry_after {
            None => Ok(Permit { breaker: self, turn: turn.number, is_told: false }),
            Some(retry_after) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                Err(Rejected { retry_after })
            }
        }
    }

    /// The state and the numbers as they are now.
    pub fn read(&self) -> BreakerReading {
        let now = self.clock.now();
        let mut turn = self.turn();
        let state = match (self.left(&mut turn, now), &turn.phase) {
            (Some(left), _) if !left.is_zero() => BreakerState::Open,
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

    /// For how long it stays open; `None` if it is not. A clock that went back does not prolong it beyond its time.
    fn left(&self, turn: &mut Turn, now: Timestamp) -> Option<Duration> {
        let Phase::Open { since } = &mut turn.phase else { return None };
        *since = now.min(*since);
        Some(self.options.open_for.saturating_sub(now.since(*since)))
    }

    fn end(&self, of: u64, ending: Ending) {
        match ending {
            Ending::Succeeded => self.succeeded.fetch_add(1, Ordering::Relaxed),
            Ending::Failed => self.failed.fetch_add(1, Ordering::Relaxed),
            Ending::Abandoned => 0,
        };
        let now = self.clock.now();
        let mut turn = self.turn();
        if turn.number != of {
            return;
        }
        let BreakerOptions { calls, failures, open_for, probes } = self.options;
        match &mut turn.phase {
            Phase::Closed { history } if ending != Ending::Abandoned => {
                let kept = u64::MAX >> (u64::BITS - calls);
                *history = (*history << 1 | u64::from(ending == Ending::Failed)) & kept;
                if history.count_ones() >= failures {
                    turn.change(Phase::Open { since: now });
                    drop(turn);
                    let retry_ms = open_for.as_millis();
                    tracing::error!(dependency = %self.name, failures, calls, retry_ms, "a breaker has opened");
                }
            }
            Phase::HalfOpen { running, succeeded } => {
                *running -= 1;
                *succeeded += u32::from(ending == Ending::Succeeded);
                let is_over = *succeeded >= probes;
                if ending == Ending::Failed {
                    turn.change(Phase::Open { since: now });
                    drop(turn);
                    tracing::debug!(dependency = %self.name, "a probe failed; the breaker opens again");
                } else if is_over {
                    turn.change(Phase::Closed { history: 0 });
                    drop(turn);
                    tracing::info!(dependency = %self.name, probes, "a breaker has closed");
                }
            }
            Phase::Closed { .. } | Phase::Open { .. } => {}
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.name).field("reading", &self.read()).finish()
    }
}

impl Turn {
    fn change(&mut self, phase: Phase) {
        *self = Self { number: self.number + 1, phase };
    }
}

/// A call that a [`Breaker`] lets through.
#[derive(Debug)]
#[must_use = "without a call it is given back at once"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    turn: u64,
    is_told: bool,
}

impl Permit<'_> {
    /// The call was answered, with whatever.
    pub fn succeeded(mut self) {
        self.tell(Ending::Succeeded);
    }

    /// The call failed, or nobody waits for its answer any longer.
    pub fn failed(mut self) {
        self.tell(Ending::Failed);
    }

    fn tell(&mut self, ending: Ending) {
        self.is_told = true;
        self.breaker.end(self.turn, ending);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.breaker.end(self.turn, Ending::Abandoned);
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
            // Two of any five in a row fail.
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
    fn open_it_rejects_and_says_when_to_come_again() {
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
    fn half_open_it_lets_probes_through_and_nobody_else() {
        let (breaker, clock) = opened();
        clock.advance(OPEN_FOR);
        let probes = [breaker.enter().unwrap(), breaker.enter().unwrap()];
        expect_rejected(&breaker, WHILE_PROBED);
        let [first, second] = probes;
        first.succeeded();
        expect_rejected(&breaker, WHILE_PROBED);
        second.succeeded();
        assert_eq!(breaker.read().state, BreakerState::Closed);
        // What was before it opened is forgotten.
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
        // The other probe is of a turn that is over.
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
    fn calls_that_are_dropped_or_end_late_move_nothing() {
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
                    // Nobody gives a place back before everybody has asked.
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
