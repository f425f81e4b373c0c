//! Time in milliseconds since the Unix epoch, from one injected source.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The latest representable time: 2⁶³−1 ms.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Creates a timestamp from milliseconds since the Unix epoch, capped at [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Adds `span` in whole milliseconds, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Subtracts `span` in whole milliseconds, saturating at [`Timestamp::EPOCH`].
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Moves by so many milliseconds, forward or back, within the representable times.
    #[must_use]
    pub fn moved(self, by_ms: i64) -> Self {
        Self::from_millis(self.0.saturating_add_signed(by_ms))
    }

    /// Returns the time elapsed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// A source of the current time.
///
/// A ledger decides at `max(last, now)` of the lane, so a clock that steps back does no harm.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the time without the steps that the clock has taken on purpose: for waiting, and
    /// for ids. A clock that takes none need not implement it.
    fn steady(&self) -> Timestamp {
        self.now()
    }
}

/// A clock without its steps: its time is [`Clock::steady`].
#[derive(Clone, Debug)]
pub struct SteadyTime(pub Arc<dyn Clock>);

impl Clock for SteadyTime {
    fn now(&self) -> Timestamp {
        self.0.steady()
    }

    fn steady(&self) -> Timestamp {
        self.0.steady()
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // `as_millis` computes in 128 bits; this runs for every request, so stay in 64.
        Timestamp::from_millis(
            since.as_secs().saturating_mul(1_000).saturating_add(u64::from(since.subsec_millis())),
        )
    }
}

/// A manually controlled clock for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Creates a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_millis()))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.set(self.now().after(span));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
