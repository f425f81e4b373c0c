//! Why a service did not answer.

use std::time::Duration;

use super::BatcherError;
use crate::{ledger::LedgerError, snowflake::IdError};

/// Why a service did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The queue is full; nothing was done.
    #[error("too many requests wait already")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The ledger did not answer. If it is indefinite, the request is repeated with the same key.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no id for an order at this moment.
    #[error("no id can be made: {0}")]
    Id(#[from] IdError),
    /// The payment provider did not do what it was asked, or did not answer.
    #[error("the payment provider did not do what it was asked: {0}")]
    Provider(String),
    /// The payment provider failed too often and is left alone for a while; it was not asked.
    #[error("the payment provider is not available now")]
    ProviderUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

impl From<BatcherError> for ServiceError {
    fn from(error: BatcherError) -> Self {
        match error {
            BatcherError::Busy { retry_after } => Self::Busy { retry_after },
            BatcherError::Ledger(error) => Self::Ledger(error),
        }
    }
}
