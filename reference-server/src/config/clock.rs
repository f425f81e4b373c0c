//! `[clock]`: when the server believes a jump of the machine's clock.

use std::time::Duration;

use flashsale_core::clock::SteeringOptions;
use serde::{Deserialize, Serialize};

/// When the server believes a jump of the machine's clock; table `[clock]`. Until then it decides
/// on its own time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockConfig {
    /// `clock.max_jump_seconds`: a greater difference to the machine's clock is a jump, 1 to 60;
    /// smaller ones are made up for gradually. Default 2.
    pub max_jump_seconds: u64,
    /// `clock.believe_after_seconds`: how long a jump must persist to be believed, 1 to 3600.
    /// Default 30.
    pub believe_after_seconds: u64,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self { max_jump_seconds: 2, believe_after_seconds: 30 }
    }
}

impl ClockConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "clock.max_jump_seconds", self.max_jump_seconds, 1..=60);
        super::range::within(problems, "clock.believe_after_seconds", self.believe_after_seconds, 1..=3_600);
    }

    /// Converts to the options of the clock.
    pub fn options(&self) -> SteeringOptions {
        SteeringOptions {
            max_jump: Duration::from_secs(self.max_jump_seconds),
            believe_after: Duration::from_secs(self.believe_after_seconds),
        }
    }
}
