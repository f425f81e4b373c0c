//! Views: what the hot path may know without asking the ledger.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Epoch, Lane, Selling};
use crate::domain::{SkuId, Timestamp, UserId, Window};

/// One lane as it stood at one moment. It is a shortcut for declining: only the ledger admits.
#[derive(Clone, Debug)]
pub struct View {
    /// The lane.
    pub lane: Lane,
    /// The epoch of the activity.
    pub epoch: Epoch,
    /// Grows with every change of the lane.
    pub version: u64,
    /// The time of the lane at that moment.
    pub at: Timestamp,
    /// Whether operators let it sell.
    pub selling: Selling,
    /// When it sells.
    pub window: Window,
    /// Every offer.
    pub offers: Vec<OfferView>,
    /// The buyers who have orders, of the same moment; only there if something is to be
    /// declined: the activity does not sell, or some offer has no units to take.
    pub buyers: Option<BuyerFilter>,
}

/// An offer in a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// The offer.
    pub sku: SkuId,
    /// Units that one more order could ask for, at least 0.
    pub takeable: u32,
    /// Units that left this lane for another and are not known to have arrived.
    pub sending: u32,
}

/// A compact set of the buyers who have orders in a lane: it may take a stranger for a buyer, never a buyer for a
/// stranger.
///
/// A Bloom filter with four probes in a block of 64 bits, sized so that at most 1 in 20 strangers is taken for a buyer
/// (simulated in the tests).
#[derive(Clone, Debug, Default)]
pub struct BuyerFilter {
    blocks: Arc<Vec<u64>>,
    buyers: usize,
}

impl BuyerFilter {
    /// Buyers for each block of 64 bits.
    const PER_BLOCK: usize = 5;

    /// An empty filter with room for `buyers`.
    pub fn with_room(buyers: usize) -> Self {
        let blocks = (buyers / Self::PER_BLOCK + 1).next_power_of_two();
        Self { blocks: Arc::new(vec![0; blocks]), buyers: 0 }
    }

    /// Whether the buyer may have orders; `false` is certain.
    pub fn may_contain(&self, user: UserId) -> bool {
        let (block, bits) = self.probe(user);
        self.blocks.get(block).is_some_and(|seen| seen & bits == bits)
    }

    /// Adds a buyer. Adding more than there is room for makes the filter useless, not wrong.
    pub fn insert(&mut self, user: UserId) {
        if self.blocks.is_empty() {
            *self = Self::with_room(64);
        }
        let (block, bits) = self.probe(user);
        let blocks = Arc::make_mut(&mut self.blocks);
        if blocks[block] & bits != bits {
            blocks[block] |= bits;
        }
        self.buyers += 1;
    }

    /// Whether it holds as many buyers as it has room for.
    pub fn is_full(&self) -> bool {
        self.buyers >= self.blocks.len() * Self::PER_BLOCK
    }

    /// How many buyers were added.
    pub fn len(&self) -> usize {
        self.buyers
    }

    /// Whether no buyer was added.
    pub fn is_empty(&self) -> bool {
        self.buyers == 0
    }

    fn probe(&self, user: UserId) -> (usize, u64) {
        let (hash, bits) = Self::bits(user);
        let mask = self.blocks.len().wrapping_sub(1);
        (usize::try_from(hash >> 24).unwrap_or(usize::MAX) & mask, bits)
    }

    /// A hash of the user, and four bits of 64 that stand for the user in a block; bits 24 and up of the hash choose it.
    pub(crate) fn bits(user: UserId) -> (u64, u64) {
        let mut z = user.value().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z ^= z >> 32;
        (z, 1 << (z & 63) | 1 << (z >> 6 & 63) | 1 << (z >> 12 & 63) | 1 << (z >> 18 & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_forgets_no_buyer_and_few_strangers_pass() {
        let user = |n: u64| UserId::new(n).unwrap();
        let mut filter = BuyerFilter::with_room(10_000);
        assert!(!filter.may_contain(user(1)));
        (1..=10_000).for_each(|n| filter.insert(user(n)));
        assert!((1..=10_000).all(|n| filter.may_contain(user(n))));
        let strangers = (10_001..=110_000).filter(|n| filter.may_contain(user(*n))).count();
        assert!(strangers < 5_000, "{strangers} of 100000");
    }
}
