//! One activity: its lanes, and what they share.

use super::lane::LaneState;
use crate::ledger::{Bucket, Consumer, Position, Terms};

/// One activity with its lanes. A part of an activity has some of them, without a gap.
#[derive(Clone, Debug)]
pub(super) struct ActivityState {
    pub(super) lanes: Vec<LaneState>,
    /// At a truth, per lane of the gate: the last persisted position.
    pub(super) persisted: Vec<Position>,
}

impl ActivityState {
    /// An activity as it opens.
    pub(super) fn of(terms: &Terms, mut lanes: Vec<LaneState>, consumers: &[Consumer]) -> Self {
        for lane in &mut lanes {
            lane.outbox.add(consumers, 0);
        }
        Self { lanes, persisted: vec![Position::default(); usize::from(terms.buckets().get())] }
    }

    pub(super) fn lane(&self, bucket: Bucket) -> Option<&LaneState> {
        self.lanes.get(self.index(bucket)?)
    }

    pub(super) fn lane_mut(&mut self, bucket: Bucket) -> Option<&mut LaneState> {
        let index = self.index(bucket)?;
        self.lanes.get_mut(index)
    }

    fn index(&self, bucket: Bucket) -> Option<usize> {
        let first = self.lanes.first()?.lane.bucket;
        bucket.checked_sub(first).map(usize::from)
    }
}
