//! Metrics of an engine's commits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::metrics::Histogram;

/// What an engine has done since it was opened. Without a journal there are no commits.
#[derive(Debug)]
pub struct CommitMetrics {
    /// Duration of a commit, from the first byte written to the end of the sync, in microseconds.
    pub micros: Histogram,
    /// The longest of these durations, in microseconds.
    pub slowest_micros: AtomicU64,
    /// Journal bytes per commit.
    pub bytes: Histogram,
    /// Calls of the ledger, those that only read included.
    pub calls: AtomicU64,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        const MICROS: &[u64] = &[
            50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
            5_000_000,
        ];
        const BYTES: &[u64] = &[256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
        Self {
            micros: Histogram::new(MICROS),
            slowest_micros: AtomicU64::new(0),
            bytes: Histogram::new(BYTES),
            calls: AtomicU64::new(0),
        }
    }
}

impl CommitMetrics {
    pub(super) fn count(&self, took: Duration, bytes: usize) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.record(micros);
        self.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        self.bytes.record(bytes as u64);
    }
}
