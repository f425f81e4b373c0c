//! Positions in an outbox, epochs and fences.

use serde::{Deserialize, Serialize};

/// The generation of a gate's content. 0 before the first gate was opened; a rebuilt gate has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Names the batch in which an entry was written, unlike that of any other batch: two histories of one lane that took
/// different turns have different batch ids at the same sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub u64);

/// Where an entry stands in the outbox of its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The generation in which it was written.
    pub epoch: Epoch,
    /// Its number in the lane, from 1, without gaps.
    pub sequence: u64,
    /// The batch that wrote it.
    pub batch: BatchId,
}

/// A fencing token: who holds the higher one has the newer lease, and writes under a lower one are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);
