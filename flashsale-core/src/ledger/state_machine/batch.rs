//! The batch of a decision.

use crate::{domain::Timestamp, ledger::BatchId};

/// The id and time of the batch to which a decision belongs.
///
/// The caller chooses both, so the state machine needs neither a clock nor randomness. Events take
/// the later of `now` and the lane's last decision, so a clock that jumps back does not set a
/// lane's time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Part of the [position](crate::ledger::Position) of each entry.
    pub id: BatchId,
    /// The time of the decision.
    pub now: Timestamp,
}
