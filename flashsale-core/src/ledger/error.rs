//! Errors of ledgers, and what a caller may conclude from them.

use std::sync::Arc;

use super::{Epoch, Position};
use crate::domain::Invalid;

/// An error of a ledger. A declined request is an [`Outcome`](super::Outcome), not an error.
///
/// An error covers the whole batch. *Definite* means that nothing happened. *Indefinite* means that
/// the batch may have been decided: repeat it with the same keys and ids to find out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The reply was lost, or the commit may have failed. Indefinite; repeat with the same keys.
    #[error("the outcome is unknown; repeat with the same keys: {0}")]
    Unknown(Arc<str>),
    /// The ledger or its store is temporarily down. Definite; a retry may help.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The ledger stopped after a failed write or on corrupt data. Definite; needs an operator.
    #[error("the ledger has stopped: {0}")]
    Stopped(Arc<str>),
    /// The request is invalid. Definite; a retry does not help.
    #[error("invalid: {0}")]
    Invalid(#[from] Invalid),
    /// This ledger is a gate, which does not decide this. Definite; a retry does not help.
    #[error("this ledger is a gate and does not decide {0}")]
    NotDeciding(&'static str),
    /// The activity was never opened here, or its content is lost. Definite.
    #[error("the activity is not open in this ledger")]
    NotOpen,
    /// The caller's position or epoch is out of date. Definite; read again and continue from there.
    #[error("the position moved to {position:?} in epoch {epoch:?}")]
    Moved {
        /// The current epoch.
        epoch: Epoch,
        /// The current position.
        position: Position,
    },
}

impl LedgerError {
    /// Returns whether it is certain that nothing happened.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Returns whether the same request may succeed later without intervention.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Unavailable(_))
    }
}
