//! The guard between a wall clock and the time that decides.

use std::time::Duration;

use crate::domain::Timestamp;

/// When a jump of the wall clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeringOptions {
    /// A greater difference to the wall is a jump; a smaller one is made up for gradually. Default:
    /// 2 s.
    pub max_jump: Duration,
    /// How long a jump must persist, at about the same distance, to be believed. Default: 30 s.
    pub believe_after: Duration,
}

impl Default for SteeringOptions {
    fn default() -> Self {
        Self { max_jump: Duration::from_secs(2), believe_after: Duration::from_secs(30) }
    }
}

/// What a reading of the two clocks says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The wall is near; the difference is being made up for.
    Steady {
        /// How far the wall is ahead, in milliseconds; negative if it is behind.
        offset_ms: i64,
    },
    /// The wall has jumped, and is not believed yet.
    Doubted(Doubt),
    /// The jump persists, or was confirmed: take the step with [`SteeredTime::step`]. The time
    /// stays as it is until then.
    Believed {
        /// By how much to step, in milliseconds; negative for back.
        by_ms: i64,
    },
}

/// A jump of the wall clock that is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// How far the wall is ahead, in milliseconds; negative if it is behind.
    pub offset_ms: i64,
    /// How long the jump has persisted.
    pub lasts: Duration,
    /// How much longer it has to persist.
    pub left: Duration,
}

/// Time that advances with a monotonic clock and is steered towards a wall clock.
///
/// It never goes back except by [`step`](Self::step). While it makes up for a difference it runs
/// 5 % faster or slower than the monotonic clock: 2 s take 40 s. Each observation starts from the
/// readings alone, so a jump that vanishes before it is believed leaves no trace.
///
/// ```
/// use std::time::Duration;
/// use flashsale_core::{
///     clock::{Observation, SteeredTime, SteeringOptions},
///     domain::Timestamp,
/// };
///
/// let at = Timestamp::from_millis;
/// let second = Duration::from_secs;
/// let mut time = SteeredTime::new(SteeringOptions::default(), second(0), at(1_000_000));
/// // One second later, the wall shows an hour more.
/// let seen = time.observe(second(1), at(4_601_000));
/// assert!(matches!(seen, Observation::Doubted(doubt) if doubt.offset_ms == 3_600_000));
/// assert_eq!(time.line().at(second(1)), at(1_001_000));
/// ```
#[derive(Clone, Debug)]
pub struct SteeredTime {
    options: SteeringOptions,
    line: Line,
    doubted: Option<Jump>,
}

/// A jump that is being watched.
#[derive(Clone, Copy, Debug)]
struct Jump {
    offset_us: i64,
    since: Duration,
    confirmed: bool,
}

/// Time as a function of the monotonic clock, until the next observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    anchor_us: i64,
    base_us: i64,
    /// What is left to make up for.
    left_us: i64,
    /// The sum of all steps.
    stepped_us: i64,
}

/// How much faster or slower the time runs while it makes up for a difference: one part in so many.
const SLEW: i64 = 20;
/// A difference up to this is what reading two clocks one after the other, in whole milliseconds,
/// cannot tell from none.
const NOISE_US: i64 = 2_000;

impl SteeredTime {
    /// Starts at the wall's time.
    pub fn new(options: SteeringOptions, monotonic: Duration, wall: Timestamp) -> Self {
        let line = Line { anchor_us: micros(monotonic), base_us: micros_of(wall), left_us: 0, stepped_us: 0 };
        Self { options, line, doubted: None }
    }

    /// The options.
    pub fn options(&self) -> SteeringOptions {
        self.options
    }

    /// Time until the next observation.
    pub fn line(&self) -> Line {
        self.line
    }

    /// Advances the time to at least `to`. For the start: nothing was decided by this time yet.
    pub fn start_at(&mut self, monotonic: Duration, to: Timestamp) {
        self.line = self.line.rebased(monotonic);
        self.line.base_us = self.line.base_us.max(micros_of(to));
    }

    /// Compares the time with the wall.
    pub fn observe(&mut self, monotonic: Duration, wall: Timestamp) -> Observation {
        self.line = self.line.rebased(monotonic);
        let offset_us = micros_of(wall).saturating_sub(self.line.base_us);
        if offset_us.unsigned_abs() <= micros(self.options.max_jump).unsigned_abs() {
            self.doubted = None;
            if offset_us.abs() > NOISE_US {
                self.line.left_us = offset_us;
            }
            if mutant!("clock-jumps-small-differences") {
                self.line.base_us += offset_us;
            }
            return Observation::Steady { offset_ms: offset_us / 1_000 };
        }
        let jump = self.doubted.filter(|jump| self.is_same(*jump, offset_us));
        let jump =
            *self.doubted.insert(jump.unwrap_or(Jump { offset_us, since: monotonic, confirmed: false }));
        let lasts = monotonic.saturating_sub(jump.since);
        let offset_ms = offset_us / 1_000;
        if jump.confirmed || lasts >= self.options.believe_after || mutant!("clock-believes-at-once") {
            return Observation::Believed { by_ms: offset_ms };
        }
        Observation::Doubted(Doubt { offset_ms, lasts, left: self.options.believe_after - lasts })
    }

    fn is_same(&self, jump: Jump, offset_us: i64) -> bool {
        let moved = offset_us.saturating_sub(jump.offset_us).unsigned_abs();
        moved <= micros(self.options.max_jump).unsigned_abs() || mutant!("clock-counts-other-jumps")
    }

    /// Makes the next observation believe the jump that is doubted now, if it is still there.
    /// Returns the offset in milliseconds, or `None` if no jump is doubted.
    pub fn confirm(&mut self) -> Option<i64> {
        let jump = self.doubted.as_mut()?;
        jump.confirmed = true;
        Some(jump.offset_us / 1_000)
    }

    /// Moves the time at once, forward or back.
    pub fn step(&mut self, monotonic: Duration, by_ms: i64) {
        self.line = self.line.rebased(monotonic);
        self.line.base_us = self.line.base_us.saturating_add(by_ms.saturating_mul(1_000));
        self.line.stepped_us = self.line.stepped_us.saturating_add(by_ms.saturating_mul(1_000));
        self.doubted = None;
    }
}

impl Line {
    /// The time at a reading of the monotonic clock.
    pub fn at(&self, monotonic: Duration) -> Timestamp {
        timestamp(self.micros_at(monotonic))
    }

    /// The time without the steps that were taken: it never goes back, and advances as the
    /// monotonic clock does, but for the small differences.
    pub fn steady_at(&self, monotonic: Duration) -> Timestamp {
        timestamp(self.micros_at(monotonic).saturating_sub(self.stepped_us))
    }

    fn micros_at(&self, monotonic: Duration) -> i64 {
        // A reader may have read the monotonic clock just before the line was anchored.
        let elapsed = micros(monotonic) - self.anchor_us;
        self.base_us + elapsed + self.made_up(elapsed)
    }

    fn made_up(&self, elapsed: i64) -> i64 {
        (elapsed.max(0) / SLEW).min(self.left_us.abs()) * self.left_us.signum()
    }

    /// The same line, anchored at this reading, with nothing left to make up for.
    fn rebased(&self, monotonic: Duration) -> Self {
        let anchor_us = micros(monotonic).max(self.anchor_us);
        let elapsed = anchor_us - self.anchor_us;
        let base_us = self.base_us + elapsed + self.made_up(elapsed);
        Self { anchor_us, base_us, left_us: 0, ..*self }
    }
}

/// Microseconds; about 290,000 years fit.
fn micros(span: Duration) -> i64 {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(span.subsec_micros()))
}

fn micros_of(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 2_000).saturating_mul(1_000)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(micros / 1_000).unwrap_or(0))
}
