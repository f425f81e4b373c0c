//! `[monitor]`: the invariant monitor, and what follows from a failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::monitoring::invariants::Limits;

/// How often the invariants are checked, their limits, and when a failed process ends; table
/// `[monitor]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorConfig {
    /// `monitor.period_seconds`: interval between checks, 1 to 30. Default 5.
    pub period_seconds: u64,
    /// `monitor.overdue_seconds`: how long a hold may outlast its deadline. Default 30.
    pub overdue_seconds: u64,
    /// `monitor.outbox_entries`: how many outbox entries a consumer may lag behind. Default 100000.
    pub outbox_entries: u64,
    /// `monitor.refund_seconds`: how long an activity may keep having refunds due. Default 3600.
    pub refund_seconds: u64,
    /// `monitor.exit_after_seconds`: how long a process that cannot work any more, as after a full
    /// disk, answers `/healthz` with 503 before it ends with exit code 1. 0 means that it does not
    /// end by itself. Default 30.
    pub exit_after_seconds: u64,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            period_seconds: 5,
            overdue_seconds: 30,
            outbox_entries: 100_000,
            refund_seconds: 3_600,
            exit_after_seconds: 30,
        }
    }
}

impl MonitorConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "monitor.period_seconds", self.period_seconds, 1..=30);
        super::range::within(problems, "monitor.overdue_seconds", self.overdue_seconds, 1..=86_400);
        super::range::within(problems, "monitor.outbox_entries", self.outbox_entries, 1..=u64::MAX);
        super::range::within(problems, "monitor.refund_seconds", self.refund_seconds, 1..=2_592_000);
        super::range::within(problems, "monitor.exit_after_seconds", self.exit_after_seconds, 0..=86_400);
    }

    /// Returns `period_seconds` as a duration.
    pub fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }

    /// Returns `exit_after_seconds` as a duration; `None` if the process does not end by itself.
    pub fn exit_after(&self) -> Option<Duration> {
        (self.exit_after_seconds > 0).then(|| Duration::from_secs(self.exit_after_seconds))
    }

    /// Converts to the limits of the monitor.
    pub fn limits(&self) -> Limits {
        Limits {
            overdue: Duration::from_secs(self.overdue_seconds),
            outbox: self.outbox_entries,
            refund: Duration::from_secs(self.refund_seconds),
        }
    }
}
