//! Positions in an outbox, and epochs.

use serde::{Deserialize, Serialize};

/// The generation of a gate's content: 0 before the first gate opens, higher after every rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Returns the next epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The unique id of the batch that wrote an entry. Diverged histories of a lane have different
/// batch ids at the same sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub u64);

/// The position of an entry in its lane's outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// Its number in the lane, from 1 without gaps.
    pub sequence: u64,
    /// The batch that wrote it.
    pub batch: BatchId,
}
