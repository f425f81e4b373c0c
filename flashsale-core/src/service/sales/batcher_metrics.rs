//! What a batcher has done.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    ledger::{Advanced, Outcome},
    metrics::Histogram,
};

/// Metrics of one batcher since the start of the process.
#[derive(Debug)]
pub struct BatcherMetrics {
    /// Sizes of the batches of requests for units.
    pub reserves: Histogram,
    /// Sizes of the batches of later steps of orders.
    pub advances: Histogram,
    /// How long the ledger took for a batch, in microseconds.
    pub round_trips: Histogram,
    /// Batches that the ledger answered with an error, or in which it panicked.
    pub failed: AtomicU64,
    /// Outcomes of requests for units, indexed as [`Outcome::NAMES`].
    pub reserved: [AtomicU64; Outcome::NAMES.len()],
    /// Outcomes of later steps, indexed as [`Advanced::NAMES`].
    pub advanced: [AtomicU64; Advanced::NAMES.len()],
}

impl Default for BatcherMetrics {
    fn default() -> Self {
        const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];
        const MICROS: &[u64] = &[
            100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
            5_000_000,
        ];
        Self {
            reserves: Histogram::new(SIZES),
            advances: Histogram::new(SIZES),
            round_trips: Histogram::new(MICROS),
            failed: AtomicU64::new(0),
            reserved: array::from_fn(|_| AtomicU64::new(0)),
            advanced: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl BatcherMetrics {
    /// Adds what another batcher has done.
    pub fn add(&self, other: &Self) {
        self.reserves.add(&other.reserves);
        self.advances.add(&other.advances);
        self.round_trips.add(&other.round_trips);
        let counters = |metrics: &'_ Self| {
            let outcomes = metrics.reserved.iter().chain(&metrics.advanced);
            outcomes
                .chain([&metrics.failed])
                .map(|counter| counter.load(Ordering::Relaxed))
                .collect::<Vec<_>>()
        };
        let mine = self.reserved.iter().chain(&self.advanced).chain([&self.failed]);
        for (counter, count) in mine.zip(counters(other)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Counts the outcomes of a batch, with one atomic addition for each kind of outcome in it.
pub(super) fn count_outcomes<T, const N: usize>(
    counters: &[AtomicU64; N],
    outcomes: &[T],
    index: impl Fn(&T) -> usize,
) {
    let mut counts = [0; N];
    outcomes.iter().for_each(|outcome| counts[index(outcome)] += 1);
    for (counter, count) in counters.iter().zip(counts).filter(|(_, count)| *count > 0) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
