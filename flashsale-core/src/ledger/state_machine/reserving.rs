//! Lanes take room when they open, and give it back when they are over.

use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashTable};

use super::{
    lane::LaneState,
    limit_counters::Counter,
    machine::StateMachine,
    orders::{OrderRow, RowId},
    room::{Room, RoomBudget, is_sparse},
};
use crate::{domain::Timestamp, ledger::BuyerFilter};

/// Memory that a lane no longer needs. Drop it where nobody waits for it.
#[derive(Debug)]
pub struct UnusedRoom {
    _part: Part,
}

#[derive(Debug)]
#[expect(dead_code, reason = "only dropped")]
enum Part {
    Rows(Vec<Vec<OrderRow>>),
    Index(HashTable<RowId>),
    Counters(HashMap<Counter, u32>),
    Buyers(BuyerFilter),
}

/// If not all fits into a budget, it is divided into this many steps to find the part that does.
const PARTS: usize = 64;

/// After moving this many orders, waiting calls have their turn.
const MOVED_AT_ONCE: usize = 16_384;

impl RoomBudget {
    /// Reserves memory for an order per unit of an activity's lanes. If less is left, each lane gets
    /// the same part of what it wants.
    pub(super) fn make_room(&self, lanes: &mut [&mut LaneState]) {
        let orders = |lane: &LaneState, part: usize| lane.wanted_room() * part / PARTS;
        let bytes = |part| -> u64 { lanes.iter().map(|lane| lane.room_bytes(orders(lane, part))).sum() };
        let mut part = 0;
        let take = |left: u64| {
            part = (1..=PARTS).rev().find(|part| bytes(*part) <= left).unwrap_or(0);
            Some(left - bytes(part))
        };
        // The closure always returns a value, so this cannot fail.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        for lane in lanes.iter_mut().filter(|_| part > 0) {
            let orders = orders(lane, part);
            lane.reserve(orders);
            let bytes = lane.room_bytes(orders);
            lane.room = Some(Room { orders, bytes, budget: self.clone() });
        }
    }
}

impl LaneState {
    /// The memory of this many orders, in bytes.
    fn room_bytes(&self, orders: usize) -> u64 {
        let bytes = super::orders::room_bytes(orders)
            + self.counters.room_bytes(orders)
            + if orders > 0 { BuyerFilter::bytes_with_room(orders) } else { 0 };
        bytes as u64
    }

    /// Takes out one part of the memory reserved for orders that never came; `None` if there is no
    /// more. Also returns how many entries had to move into a smaller index.
    ///
    /// Indices that are not sparse stay: moving their entries would keep callers waiting, and all
    /// memory is freed when the activity is archived.
    fn take_unused(&mut self) -> Option<(Part, usize)> {
        let rows = self.orders.take_empty_chunks();
        if !rows.is_empty() {
            return Some((Part::Rows(rows), 0));
        }
        if let Some(index) = self.orders.shrink_index() {
            return Some((Part::Index(index), self.orders.len()));
        }
        if let Some(counters) = self.counters.shrink() {
            return Some((Part::Counters(counters), self.orders.len()));
        }
        if !is_sparse(self.orders.len(), self.buyers.room()) {
            return None;
        }
        let mut smaller = BuyerFilter::with_room(self.orders.len());
        self.orders.iter().for_each(|(_, row)| smaller.insert(row.user));
        Some((Part::Buyers(std::mem::replace(&mut self.buyers, smaller)), self.orders.len()))
    }
}

impl StateMachine {
    /// Reserves memory for the sales that are not over at `now`, from a budget that bounds all later
    /// reservations, too. For a state machine that was loaded.
    pub fn make_room(&mut self, budget: &RoomBudget, now: Timestamp) {
        self.budget = budget.clone();
        self.room_until = Timestamp::EPOCH;
        for sale in self.sales.values_mut() {
            let mut lanes: Vec<_> = sale.lanes.iter_mut().filter(|lane| !lane.is_over(now)).collect();
            budget.make_room(&mut lanes);
        }
    }

    /// Takes over the bounds of the state machine whose place it takes.
    #[cfg(any(test, feature = "conformance"))]
    pub fn take_bounds_of(&mut self, other: &Self) {
        (self.budget, self.max_unread) = (other.budget.clone(), other.max_unread);
    }

    /// Gives back the room of lanes that are over at `now`; empty if there is none, which takes one
    /// comparison. It takes one part after another and stops when that took some time, so call it again
    /// after other work.
    pub fn give_back_room(&mut self, now: Timestamp) -> Vec<UnusedRoom> {
        let mut unused = Vec::new();
        if now < self.room_until {
            return unused;
        }
        let (mut moved, mut until) = (0, Timestamp::MAX);
        let lanes = self.sales.values_mut().flat_map(|sale| &mut sale.lanes);
        for lane in lanes.filter(|lane| lane.room.is_some()) {
            if !lane.is_over(now) {
                until = until.min(lane.terms.window().ends_at());
                continue;
            }
            while moved < MOVED_AT_ONCE && lane.room.is_some() {
                match lane.take_unused() {
                    Some((_part, more)) => {
                        unused.push(UnusedRoom { _part });
                        moved += more;
                    }
                    None => lane.room = None,
                }
            }
            if lane.room.is_some() {
                until = Timestamp::EPOCH;
            }
        }
        self.room_until = until;
        unused
    }

    /// The orders that each lane of an activity has room for.
    #[cfg(test)]
    pub(crate) fn rooms(&self, activity: crate::domain::ActivityId) -> Vec<usize> {
        let lanes = &self.sales[&activity].lanes;
        lanes.iter().map(|lane| lane.room.as_ref().map_or(0, |room| room.orders)).collect()
    }

    /// The memory that all lanes have for orders, in bytes.
    #[cfg(test)]
    pub(crate) fn room_in_use(&self) -> u64 {
        let bytes = |lane: &LaneState| {
            lane.orders.allocated_bytes() + lane.counters.allocated_bytes() + lane.buyers.allocated_bytes()
        };
        self.sales.values().flat_map(|sale| &sale.lanes).map(bytes).sum::<usize>() as u64
    }
}
