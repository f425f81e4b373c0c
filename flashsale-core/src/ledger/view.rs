//! Views: snapshots of a lane for the hot path.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{Epoch, Lane, Terms};
use crate::domain::{Selling, SkuId, Timestamp, UserId};

/// A snapshot of one lane, used only to decline requests: only the ledger admits.
#[derive(Clone, Debug)]
pub struct View {
    /// The lane.
    pub lane: Lane,
    /// The epoch of the activity.
    pub epoch: Epoch,
    /// Increases with every change of the lane.
    pub version: u64,
    /// The lane's time at the snapshot.
    pub at: Timestamp,
    /// Whether operators let the activity sell.
    pub selling: Selling,
    /// The terms with all changes that the lane has seen. A change that was interrupted may not have
    /// reached every lane.
    pub terms: Arc<Terms>,
    /// Every offer.
    pub offers: Vec<OfferView>,
    /// The buyers with orders at the snapshot, and maybe some who ordered later. Present only if the
    /// view can decline requests: the activity is not selling or outside its window, or an offer has
    /// nothing to take.
    pub buyers: Option<BuyerFilter>,
}

/// An offer in a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// The offer.
    pub sku: SkuId,
    /// Units that one more order could request.
    pub takeable: u32,
    /// Units sent to other lanes and not known to have arrived.
    pub sending: u32,
}

/// A compact set of the buyers with orders in a lane. It never misses a buyer but may contain
/// strangers.
///
/// A Bloom filter with four probes in a 64-bit block. A layer admits at most 1 in 20 strangers
/// (simulated in the tests). When the last layer is full, one of twice the size is added, so that
/// no caller waits for a larger one to be filled; a filter that grew admits up to 3 in 20.
///
/// Buyers are only ever added, so copies share their memory: a copy costs the same however many
/// buyers there are, and may also contain buyers added to the original later.
#[derive(Clone, Debug, Default)]
pub struct BuyerFilter {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    /// The number of blocks is a power of two. Relaxed access is enough: whoever hands a copy to
    /// another thread makes the buyers added before visible there.
    blocks: Arc<[AtomicU64]>,
    buyers: usize,
}

impl Layer {
    /// The number of buyers per 64-bit block.
    const PER_BLOCK: usize = 5;

    fn with_room(buyers: usize) -> Self {
        let blocks = iter::repeat_with(AtomicU64::default).take(Self::blocks(buyers));
        Self { blocks: blocks.collect(), buyers: 0 }
    }

    fn blocks(buyers: usize) -> usize {
        (buyers / Self::PER_BLOCK + 1).next_power_of_two()
    }

    fn room(&self) -> usize {
        self.blocks.len() * Self::PER_BLOCK
    }

    fn block(&self, hash: u64) -> &AtomicU64 {
        &self.blocks[usize::try_from(hash >> 24).unwrap_or(usize::MAX) & (self.blocks.len() - 1)]
    }
}

impl BuyerFilter {
    /// Creates an empty filter with room for `buyers`. Its memory is written once, so that no insert
    /// waits for the operating system to provide it.
    pub fn with_room(buyers: usize) -> Self {
        Self { layers: vec![Layer::with_room(buyers)] }
    }

    /// The memory of a filter with room for `buyers`, in bytes.
    pub(crate) fn bytes_with_room(buyers: usize) -> usize {
        Layer::blocks(buyers) * size_of::<AtomicU64>()
    }

    /// The memory that it has, in bytes.
    #[cfg(test)]
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.layers.iter().map(|layer| size_of_val(&*layer.blocks)).sum()
    }

    /// Returns how many buyers it has room for before it grows.
    pub(crate) fn room(&self) -> usize {
        self.layers.iter().map(Layer::room).sum()
    }

    /// Returns whether the buyer may have orders; `false` is certain.
    pub fn may_contain(&self, user: UserId) -> bool {
        let (hash, bits) = Self::bits(user);
        self.layers.iter().any(|layer| layer.block(hash).load(Ordering::Relaxed) & bits == bits)
    }

    /// Adds a buyer.
    pub fn insert(&mut self, user: UserId) {
        if self.may_contain(user) {
            return;
        }
        let room = self.layers.last().map_or(0, Layer::room);
        if self.layers.last().is_none_or(|layer| layer.buyers >= room) {
            self.layers.push(Layer::with_room((room * 2).max(64)));
        }
        let (hash, bits) = Self::bits(user);
        if let Some(layer) = self.layers.last_mut() {
            layer.block(hash).fetch_or(bits, Ordering::Relaxed);
            layer.buyers += 1;
        }
    }

    /// Returns the user's hash, whose bits from 24 up choose a block, and the bits to set there.
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

    #[test]
    fn a_filter_outgrows_its_room() {
        let user = |n: u64| UserId::new(n).unwrap();
        let mut filter = BuyerFilter::default();
        assert!(!filter.may_contain(user(1)));
        (1..=100_000).for_each(|n| filter.insert(user(n)));
        assert!((1..=100_000).all(|n| filter.may_contain(user(n))));
        let strangers = (100_001..=200_000).filter(|n| filter.may_contain(user(*n))).count();
        assert!(strangers < 15_000, "{strangers} of 100000");
        assert!(filter.layers.len() > 5);
    }

    #[test]
    fn copies_share_their_memory_and_miss_no_buyer() {
        let user = |n: u64| UserId::new(n).unwrap();
        let mut filter = BuyerFilter::with_room(1_000);
        (1..=1_000).for_each(|n| filter.insert(user(n)));
        let copy = filter.clone();
        let memory = |filter: &BuyerFilter| filter.layers[0].blocks.as_ptr();
        (1_001..=5_000).for_each(|n| filter.insert(user(n)));
        assert_eq!(memory(&filter), memory(&copy), "an insert copied the filter");
        assert!((1..=5_000).all(|n| filter.may_contain(user(n))));
        assert!((1..=1_000).all(|n| copy.may_contain(user(n))));
        let strangers = (100_001..=200_000).filter(|n| copy.may_contain(user(*n))).count();
        assert!(strangers < 15_000, "{strangers} of 100000");
    }
}
