//! One activity: its lanes with their outboxes, and what they share.

use super::{lane::LaneState, outbox::Outbox};
use crate::ledger::{Consumer, Epoch, Position, Terms};

/// One activity with its lanes.
#[derive(Clone, Debug)]
pub(super) struct ActivityState {
    pub(super) epoch: Epoch,
    /// Whether a gate has closed the activity for a rebuild.
    pub(super) closed: bool,
    pub(super) lanes: Vec<LaneState>,
    pub(super) outboxes: Vec<Outbox>,
    /// At a truth, per lane of the gate: the last persisted position.
    pub(super) persisted: Vec<Position>,
}

impl ActivityState {
    /// An activity as it opens.
    pub(super) fn of(terms: &Terms, lanes: Vec<LaneState>, consumers: &[Consumer]) -> Self {
        Self {
            epoch: Epoch::default(),
            closed: false,
            outboxes: lanes.iter().map(|_| Outbox::new(consumers)).collect(),
            lanes,
            persisted: vec![Position::default(); usize::from(terms.buckets().get())],
        }
    }
}
