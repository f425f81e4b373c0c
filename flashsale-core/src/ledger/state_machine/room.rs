//! Room: memory that lanes reserve ahead of their orders, so that no index grows during a sale.
//!
//! A [`RoomBudget`] bounds it over all lanes. A lane takes room when it opens and gives it back when
//! it is over. One that got less than it wanted grows during its sale, as vectors do.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The memory that the lanes of a ledger may reserve ahead of their orders. Clones share it.
#[derive(Clone, Debug)]
pub struct RoomBudget {
    pub(super) left: Arc<AtomicU64>,
}

/// What a lane took from a budget. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Room {
    /// The orders that it is for.
    pub(super) orders: usize,
    pub(super) bytes: u64,
    pub(super) budget: RoomBudget,
}

/// An index is replaced by a smaller one if less than one in this many of its places is used. Calls
/// wait meanwhile, so this also bounds the time: of an index with room for two million orders, at
/// most 115,000 move.
const SPARSE: usize = 32;

impl RoomBudget {
    /// A budget of this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(bytes)) }
    }

    /// How many bytes no lane has taken.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

/// Without a bound.
impl Default for RoomBudget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

/// A copy takes nothing: its memory is its orders' only.
impl Clone for Room {
    fn clone(&self) -> Self {
        Self { orders: 0, bytes: 0, budget: self.budget.clone() }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What hashbrown allocates for a table with room for this many entries: a power of two of places,
/// filled to seven eighths, and a byte for each.
pub(super) fn table_bytes<T>(entries: usize) -> usize {
    if entries == 0 { 0 } else { (entries * 8 / 7).next_power_of_two().max(16) * (size_of::<T>() + 1) + 16 }
}

/// Whether so little of an index is used that a smaller one should take its place.
pub(super) fn is_sparse(used: usize, capacity: usize) -> bool {
    used < capacity / SPARSE
}
