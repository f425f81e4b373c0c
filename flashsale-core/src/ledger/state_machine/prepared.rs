//! Lanes prepared before an activity opens.

use std::sync::Arc;

use super::{lane::LaneState, room::RoomBudget};
use crate::ledger::{Lane, LedgerRole, Terms};

/// The lanes of an activity that is not open yet. They are built outside the state machine, so that
/// it need not wait for their memory: hundreds of megabytes for millions of units.
#[derive(Debug)]
pub struct Prepared {
    pub(super) terms: Arc<Terms>,
    pub(super) lanes: Vec<LaneState>,
}

impl Prepared {
    /// Builds the lanes for a ledger with this role, with memory for an order per unit, or for as
    /// many as the budget has left.
    pub fn new(role: LedgerRole, terms: &Arc<Terms>, budget: &RoomBudget) -> Self {
        let mut prepared = Self::bare(role, terms);
        budget.make_room(&mut prepared.lanes.iter_mut().collect::<Vec<_>>());
        prepared
    }

    /// Builds the lanes without that memory, for an activity that is over or whose orders follow.
    pub fn bare(role: LedgerRole, terms: &Arc<Terms>) -> Self {
        let buckets = if role == LedgerRole::Truth { 1 } else { terms.buckets().get() };
        let lane =
            |bucket| LaneState::new(Lane { activity: terms.activity(), bucket }, role, Arc::clone(terms));
        Self { terms: Arc::clone(terms), lanes: (0..buckets).map(lane).collect() }
    }

    /// Writes once to the memory that the lanes have reserved, so that no buyer waits for the
    /// operating system to provide it.
    pub fn prefault(&mut self) {
        self.lanes.iter_mut().for_each(LaneState::prefault);
    }
}
