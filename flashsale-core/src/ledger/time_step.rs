//! Steps of the deciding clock.

use serde::{Deserialize, Serialize};

use crate::domain::{Attribution, Invalid};

/// The id of a step of time. Each step has its own; any numbers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u64);

/// A step of the deciding clock, which [`step_time`](super::LedgerCalls::step_time) takes in
/// every lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeStep {
    id: StepId,
    by_ms: i64,
    by: Attribution,
}

impl TimeStep {
    /// The longest step: 100 years of 365.25 days.
    pub const LONGEST_MS: u64 = 3_155_760_000_000;

    /// A step by so many milliseconds, negative for back.
    ///
    /// # Errors
    /// If it is 0, or longer than [`TimeStep::LONGEST_MS`].
    pub fn new(id: StepId, by_ms: i64, by: Attribution) -> Result<Self, Invalid> {
        if by_ms == 0 || by_ms.unsigned_abs() > Self::LONGEST_MS {
            return Err(Invalid::new("by_ms", "a step of time is at most 100 years long and not 0"));
        }
        Ok(Self { id, by_ms, by })
    }

    /// The id.
    pub fn id(&self) -> StepId {
        self.id
    }

    /// The length in milliseconds, negative for back.
    pub fn by_ms(&self) -> i64 {
        self.by_ms
    }

    /// Who has it taken, and why.
    pub fn by(&self) -> &Attribution {
        &self.by
    }
}
