//! Plain numbers for monitors: counted where the work is done, read by whoever shows them.
//!
//! The library knows no format and no registry. Counting costs one or two relaxed additions, and nothing is allocated.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often a number fell between bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A [`Histogram`] at one moment. Additions that happen meanwhile may be in one part and not yet in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The upper bounds, inclusive and increasing.
    pub bounds: &'static [u64],
    /// How many numbers were at most the bound of the same place and above the one before; the last place, which has no
    /// bound, has the rest.
    pub counts: Vec<u64>,
    /// The sum of all numbers.
    pub sum: u64,
}

impl Histogram {
    /// Nothing counted yet; `bounds` are upper bounds, inclusive and increasing.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a number.
    pub fn record(&self, number: u64) {
        let place = self.bounds.partition_point(|bound| *bound < number);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(number, Ordering::Relaxed);
    }

    /// The numbers as they are now.
    pub fn read(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramSnapshot {
    /// How many numbers were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what was read of another distribution with the same bounds.
    ///
    /// # Panics
    /// If the bounds differ.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "only like is added to like");
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_at_or_below_their_bounds() {
        let distribution = Histogram::new(&[1, 10, 100]);
        for number in [0, 1, 2, 10, 11, 100, 101, 5_000] {
            distribution.record(number);
        }
        let mut reading = distribution.read();
        assert_eq!((&reading.counts[..], reading.sum, reading.count()), (&[2, 2, 2, 2][..], 5_225, 8));
        reading.add(&distribution.read());
        assert_eq!((reading.count(), reading.sum), (16, 10_450));
    }
}
