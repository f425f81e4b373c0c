//! Where readings of the two clocks come from.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::domain::{Clock as _, SystemClock, Timestamp};

/// A monotonic clock and a wall clock.
pub trait TimeSource: Send + Sync + fmt::Debug {
    /// Returns the time since some moment in the past. It never goes back and never jumps.
    fn monotonic(&self) -> Duration;

    /// Returns the wall time, which may jump.
    fn wall(&self) -> Timestamp;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct OperatingSystem {
    started: Instant,
}

impl OperatingSystem {
    /// Starts at a monotonic time of 0.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for OperatingSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeSource for OperatingSystem {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall(&self) -> Timestamp {
        SystemClock.now()
    }
}

/// Two clocks that move only when told to, for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualTime {
    monotonic_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualTime {
    /// Starts at a monotonic time of 0 and this wall time.
    pub fn new(wall: Timestamp) -> Self {
        Self { monotonic_ms: AtomicU64::new(0), wall_ms: AtomicU64::new(wall.as_millis()) }
    }

    /// Advances both clocks by `span`, in whole milliseconds.
    pub fn advance(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(millis, Ordering::SeqCst);
        self.wall_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Moves only the wall clock, forward or back.
    pub fn jump(&self, by_ms: i64) {
        let moved = self.wall().moved(by_ms);
        self.wall_ms.store(moved.as_millis(), Ordering::SeqCst);
    }
}

impl TimeSource for ManualTime {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }
}
