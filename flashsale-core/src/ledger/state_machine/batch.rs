//! The batch in which calls are decided.

use crate::{domain::Timestamp, ledger::BatchId};

/// Number and time of the batch that a call is decided in.
///
/// The caller chooses both, so the state machine needs neither a clock nor randomness. Events take the later of `now` and
/// the time of their lane's last decision: a clock that jumps back does not turn a lane's time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Becomes part of the [position](crate::ledger::Position) of each entry.
    pub id: BatchId,
    /// The time of the decision.
    pub now: Timestamp,
}
