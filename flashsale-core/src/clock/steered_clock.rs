//! A clock that is steered.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{Doubt, Line, Observation, SteeredTime, SteeringOptions, TimeSource};
use crate::domain::{Clock, Timestamp};

/// A [`Clock`] on [`SteeredTime`]. Reading it takes no lock; [`observe`](Self::observe) it a few
/// times a second.
#[derive(Debug)]
pub struct SteeredClock {
    source: Arc<dyn TimeSource>,
    line: ArcSwap<Line>,
    time: Mutex<SteeredTime>,
    steps: AtomicU64,
}

/// What a clock shows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The time that decides.
    pub now: Timestamp,
    /// The wall time.
    pub wall: Timestamp,
    /// How far the wall is ahead, in milliseconds; negative if it is behind.
    pub offset_ms: i64,
    /// The jump that is not believed yet.
    pub doubt: Option<Doubt>,
    /// How many steps this clock has taken.
    pub steps: u64,
}

impl SteeredClock {
    /// Starts at the wall's time.
    pub fn new(source: Arc<dyn TimeSource>, options: SteeringOptions) -> Self {
        let time = SteeredTime::new(options, source.monotonic(), source.wall());
        Self {
            source,
            line: ArcSwap::from_pointee(time.line()),
            time: Mutex::new(time),
            steps: AtomicU64::new(0),
        }
    }

    /// Advances the clock to at least `to`. For the start, before anything is decided: a ledger has
    /// decided until then.
    pub fn start_at(&self, to: Timestamp) {
        self.change(|time| time.start_at(self.source.monotonic(), to));
    }

    /// Compares the clock with the wall. Small differences are made up for from now on.
    pub fn observe(&self) -> Observation {
        self.change(|time| time.observe(self.source.monotonic(), self.source.wall()))
    }

    /// Makes the next observation believe the jump that is doubted now. Returns its offset in
    /// milliseconds, or `None` if no jump is doubted.
    pub fn confirm(&self) -> Option<i64> {
        self.change(|time| {
            // The last observation may be old.
            time.observe(self.source.monotonic(), self.source.wall());
            time.confirm()
        })
    }

    /// Moves the clock at once. Move the deadlines that it decides about by as much, before a step
    /// forward and after a step back.
    pub fn step(&self, by_ms: i64) {
        self.change(|time| time.step(self.source.monotonic(), by_ms));
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what the clock shows.
    pub fn state(&self) -> ClockState {
        let (monotonic, wall) = (self.source.monotonic(), self.source.wall());
        let now = self.line.load().at(monotonic);
        let doubt = self.change(|time| match time.observe(monotonic, wall) {
            Observation::Doubted(doubt) => Some(doubt),
            // The step is about to be taken.
            Observation::Believed { by_ms } => {
                Some(Doubt { offset_ms: by_ms, lasts: time.options().believe_after, left: Duration::ZERO })
            }
            Observation::Steady { .. } => None,
        });
        let offset_ms = wall.as_millis().cast_signed() - now.as_millis().cast_signed();
        ClockState { now, wall, offset_ms, doubt, steps: self.steps.load(Ordering::Relaxed) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut SteeredTime) -> T) -> T {
        let mut time = self.time();
        let result = change(&mut time);
        self.line.store(Arc::new(time.line()));
        result
    }

    fn time(&self) -> MutexGuard<'_, SteeredTime> {
        // Every change is complete when it can panic no more.
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SteeredClock {
    fn now(&self) -> Timestamp {
        self.line.load().at(self.source.monotonic())
    }

    fn steady(&self) -> Timestamp {
        self.line.load().steady_at(self.source.monotonic())
    }
}
