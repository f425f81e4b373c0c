//! `[queue]`: retries of jobs.

use std::time::Duration;

use flashsale_core::queue::RetryPolicy;
use serde::{Deserialize, Serialize};

/// RetryPolicy of jobs such as refunds, before they become dead letters; table `[queue]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// `queue.attempts`: maximum attempts of a job, 1 to 100. Default 12.
    pub attempts: u32,
    /// `queue.first_wait_ms`: maximum wait before attempt 2; doubles each time. Default 1000.
    pub first_wait_ms: u64,
    /// `queue.longest_wait_seconds`: upper bound of the wait. Default 300: with the other defaults
    /// the last attempt is about 20 minutes after the first.
    pub longest_wait_seconds: u64,
    /// `queue.at_once`: jobs of one topic that run concurrently, 1 to 256. Default 16.
    pub at_once: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { attempts: 12, first_wait_ms: 1_000, longest_wait_seconds: 300, at_once: 16 }
    }
}

impl QueueConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "queue.attempts", self.attempts, 1..=100);
        super::range::within(problems, "queue.first_wait_ms", self.first_wait_ms, 1..=3_600_000);
        super::range::within(problems, "queue.longest_wait_seconds", self.longest_wait_seconds, 1..=86_400);
        super::range::within(problems, "queue.at_once", self.at_once, 1..=256);
    }

    /// Converts to the retry policy of workers.
    pub fn retries(&self) -> RetryPolicy {
        RetryPolicy {
            attempts: self.attempts,
            first: Duration::from_millis(self.first_wait_ms),
            longest: Duration::from_secs(self.longest_wait_seconds),
            at_once: self.at_once,
            ..RetryPolicy::default()
        }
    }
}
