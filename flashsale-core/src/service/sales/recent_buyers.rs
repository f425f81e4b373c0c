//! Buyers who won so recently that the current view may not show them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::{domain::UserId, ledger::BuyerFilter};

/// 8 KiB per generation. At 100,000 orders per second and a view every 50 ms, 1 in 20 others is
/// mistaken for a buyer.
const BLOCKS: usize = 1024;

/// The buyers who got orders since the view was read: a Bloom filter, so it has false positives but
/// no false negatives.
///
/// A view that was read before an order was made does not show its buyer. Until a newer view does,
/// a view must not decline anyone in this set: the retry of a request that won has to find its
/// order.
///
/// It works without a lock, in two generations:
/// 1. Buyers enter the current generation.
/// 2. `turn` starts a new one before a view is read.
/// 3. `forget` empties the previous one once that view is in use.
///
/// Only one task at a time may turn and forget.
#[derive(Debug)]
pub struct RecentBuyers {
    generations: [Box<[AtomicU64]>; 2],
    current: AtomicUsize,
}

impl RecentBuyers {
    pub(crate) fn new() -> Self {
        let generation = || std::iter::repeat_with(AtomicU64::default).take(BLOCKS).collect();
        Self { generations: [generation(), generation()], current: AtomicUsize::new(0) }
    }

    /// Adds a buyer, before the order is answered.
    pub(crate) fn insert(&self, user: UserId) {
        let (hash, bits) = BuyerFilter::bits(user);
        self.generations[self.current.load(Ordering::Acquire)][block(hash)].fetch_or(bits, Ordering::Release);
    }

    /// Whether the buyer may have won recently. Ask this before loading the view: whoever is
    /// forgotten in between is in the view that you load then.
    pub fn may_contain(&self, user: UserId) -> bool {
        let (hash, bits) = BuyerFilter::bits(user);
        let block = block(hash);
        self.generations.iter().any(|generation| generation[block].load(Ordering::Acquire) & bits == bits)
    }

    /// Starts a new generation, before a view is read.
    pub(crate) fn turn(&self) {
        self.current.fetch_xor(1, Ordering::AcqRel);
    }

    /// Empties the previous generation, once a view that was read after `turn` is in use.
    pub(crate) fn forget(&self) {
        let previous = &self.generations[self.current.load(Ordering::Acquire) ^ 1];
        for block in previous.iter().filter(|block| block.load(Ordering::Relaxed) != 0) {
            block.store(0, Ordering::Release);
        }
    }
}

fn block(hash: u64) -> usize {
    usize::try_from(hash >> 24).unwrap_or(usize::MAX) % BLOCKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buyer_is_forgotten_by_the_view_after_the_next_turn() {
        let user = |n| UserId::new(n).unwrap();
        let recent = RecentBuyers::new();
        recent.insert(user(1));
        recent.turn();
        recent.insert(user(2));
        assert!(recent.may_contain(user(1)), "no view shows it yet");
        recent.forget();
        assert!(!recent.may_contain(user(1)));
        assert!(recent.may_contain(user(2)), "it came while the view was read");
        // A view that could not be read empties nothing.
        recent.turn();
        recent.turn();
        assert!(recent.may_contain(user(2)));
        recent.turn();
        recent.forget();
        assert!(!recent.may_contain(user(2)) && !recent.may_contain(user(3)));
    }
}
