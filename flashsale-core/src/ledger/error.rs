//! Errors of ledgers: what a caller may conclude from them.

use std::sync::Arc;

use super::{Epoch, Position};
use crate::domain::Invalid;

/// Why a ledger did not answer. A declined request is not an error but an [`Outcome`](super::Outcome).
///
/// An error concerns the whole batch. It is *definite* if nothing happened, *indefinite* if the batch may have been
/// decided: then the caller repeats it with the same keys and ids, and learns what became of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The reply was lost or the commit's fate is unknown. Indefinite; repeat with the same keys.
    #[error("the outcome is unknown, repeat with the same keys: {0}")]
    Unknown(Arc<str>),
    /// The ledger or its store does not work at present. Definite; a retry may help.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The ledger stopped after a failed write or found its data damaged. Definite; only an operator helps.
    #[error("the ledger has stopped: {0}")]
    Stopped(Arc<str>),
    /// The request cannot be meant. Definite; a retry does not help.
    #[error("invalid: {0}")]
    Invalid(#[from] Invalid),
    /// This ledger follows another and does not decide that. Definite; a retry does not help.
    #[error("this ledger is a gate and does not decide {0}")]
    NotDeciding(&'static str),
    /// The activity was never opened here, or its content is gone. Definite.
    #[error("the activity is not open in this ledger")]
    NotOpen,
    /// A newer holder of the lease has written. Definite; stop working on the lane.
    #[error("a newer lease holder has written")]
    Fenced,
    /// The caller's position or epoch is not the ledger's. Definite; read again and go on from there.
    #[error("the position has moved to {position:?} in epoch {epoch:?}")]
    Moved {
        /// The epoch that is in force.
        epoch: Epoch,
        /// The position that is in force.
        position: Position,
    },
}

impl LedgerError {
    /// Whether nothing happened for sure.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Whether the same request may succeed later without anybody's help.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Unavailable(_))
    }
}
