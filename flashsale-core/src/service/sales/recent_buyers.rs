//! The buyers of the last moments, whom a view does not know yet.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::{domain::UserId, ledger::BuyerFilter};

/// 8 KiB for each generation: at 100,000 orders in a second and a view every 50 ms, 1 in 20 strangers is taken for a buyer.
const BLOCKS: usize = 1024;

/// A set of the buyers who got orders since a view was read: it may take a stranger for a buyer, never a buyer for a stranger.
///
/// A view that was read before an order was made does not show its buyer. Until a later one does, nobody who is in here
/// may be declined by the view: the retry of a request that won has to find its order.
///
/// Two generations, without a lock: buyers enter the present one; `turn` begins another before a view is
/// read, and `forget` empties the former one when that view is in use. Turning and forgetting is done by one
/// task at a time.
#[derive(Debug)]
pub struct RecentBuyers {
    generations: [Box<[AtomicU64]>; 2],
    present: AtomicUsize,
}

impl RecentBuyers {
    pub(crate) fn new() -> Self {
        let generation = || std::iter::repeat_with(AtomicU64::default).take(BLOCKS).collect();
        Self { generations: [generation(), generation()], present: AtomicUsize::new(0) }
    }

    /// Adds a buyer, before anybody is told of the order.
    pub(crate) fn insert(&self, user: UserId) {
        let (hash, bits) = BuyerFilter::bits(user);
        self.generations[self.present.load(Ordering::Acquire)][block(hash)].fetch_or(bits, Ordering::Release);
    }

    /// Whether the buyer may have got an order lately. It is asked before the view is looked at: what is forgotten
    /// meanwhile is in the view that is found then.
    pub fn may_contain(&self, user: UserId) -> bool {
        let (hash, bits) = BuyerFilter::bits(user);
        let block = block(hash);
        self.generations.iter().any(|generation| generation[block].load(Ordering::Acquire) & bits == bits)
    }

    /// Begins a generation, before a view is read.
    pub(crate) fn turn(&self) {
        self.present.fetch_xor(1, Ordering::AcqRel);
    }

    /// Empties the generation before, when a view that was read after `turn` is in use.
    pub(crate) fn forget(&self) {
        let former = &self.generations[self.present.load(Ordering::Acquire) ^ 1];
        for block in former.iter().filter(|block| block.load(Ordering::Relaxed) != 0) {
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
