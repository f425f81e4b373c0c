//! How a worker runs and retries jobs.

use std::time::Duration;

/// How jobs are run and retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum attempts before a job is parked, from 1. Default 12.
    pub attempts: u32,
    /// Maximum delay before the second attempt; it doubles with each attempt. Default 1 s.
    pub first: Duration,
    /// Upper bound of the delay. Default 5 min: the delays of 12 attempts add up to at most 19 min.
    pub longest: Duration,
    /// How long a job is claimed for. Must be longer than it takes to run. Default 30 s.
    pub lease: Duration,
    /// Maximum jobs run at a time, from 1. Default 16.
    pub at_once: usize,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            lease: Duration::from_secs(30),
            at_once: 16,
        }
    }
}

impl RetryPolicy {
    /// The delay after a failed attempt: random, from half to all of a span that doubles with each
    /// attempt. The randomness spreads jobs that failed together.
    pub fn wait(&self, attempt: u32) -> Duration {
        let doubled =
            2_u32.checked_pow(attempt.saturating_sub(1)).and_then(|times| self.first.checked_mul(times));
        let longest = doubled.map_or(self.longest, |span| span.min(self.longest));
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
