//! The lanes of an activity that is not open yet.

use std::sync::Arc;

use super::lane::LaneState;
use crate::ledger::{Lane, LedgerRole, Terms};

/// The lanes of an activity that is not open yet, made outside the book, so that the book need not wait for their
/// memory: hundreds of megabytes for millions of units.
#[derive(Debug)]
pub struct Prepared {
    pub(super) terms: Arc<Terms>,
    pub(super) lanes: Vec<LaneState>,
}

impl Prepared {
    /// The lanes of a ledger with this role.
    pub fn new(role: LedgerRole, terms: &Arc<Terms>) -> Self {
        let buckets = if role == LedgerRole::Truth { 1 } else { terms.buckets().get() };
        let lane =
            |bucket| LaneState::new(Lane { activity: terms.activity(), bucket }, role, Arc::clone(terms));
        Self { terms: Arc::clone(terms), lanes: (0..buckets).map(lane).collect() }
    }

    /// Writes once to the memory that the orders of the first two million units of each lane need, so that no buyer
    /// waits until the system has found it.
    pub fn prefault(&mut self) {
        self.lanes.iter_mut().for_each(LaneState::prefault);
    }
}
