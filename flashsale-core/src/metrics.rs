//! Plain metrics, counted where the work is done and read by monitors.
//!
//! Independent of formats and registries. Counting takes one or two relaxed additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// A histogram with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One count per bound, and one for values above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A snapshot of a [`Histogram`]. Concurrent additions may be included only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The upper bounds, inclusive and increasing.
    pub bounds: &'static [u64],
    /// How many values were at most the bound at the same index and above the previous one. The
    /// last entry counts the values above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// Creates an empty histogram; `bounds` are upper bounds, inclusive and increasing.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Records a value.
    pub fn record(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds the values of another histogram with the same bounds.
    ///
    /// # Panics
    /// If the bounds differ.
    pub fn add(&self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "histograms must share bucket bounds");
        for (count, other) in self.counts.iter().zip(&other.counts) {
            count.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sum.fetch_add(other.sum.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns a snapshot.
    pub fn read(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramSnapshot {
    /// Returns the number of recorded values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_at_or_below_their_bounds() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 5_000] {
            histogram.record(value);
        }
        let snapshot = histogram.read();
        assert_eq!((&snapshot.counts[..], snapshot.sum, snapshot.count()), (&[2, 2, 2, 2][..], 5_225, 8));
        histogram.add(&Histogram::new(&[1, 10, 100]));
        assert_eq!(histogram.read(), snapshot);
        let both = Histogram::new(&[1, 10, 100]);
        both.add(&histogram);
        both.add(&histogram);
        assert_eq!((both.read().count(), both.read().sum), (16, 10_450));
    }
}
