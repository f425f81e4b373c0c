//! The error type of the services.

use std::time::Duration;

use super::BatcherError;
use crate::{ledger::LedgerError, snowflake::IdError};

/// Why a service call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The queue is full. Nothing was done.
    #[error("too many requests are waiting")]
    Busy {
        /// How long to wait before trying again.
        retry_after: Duration,
    },
    /// The ledger failed. After an indefinite error, repeat the request with the same key.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No id can be generated right now.
    #[error("cannot generate an id: {0}")]
    Id(#[from] IdError),
    /// The payment provider refused, failed or did not answer, or is not configured.
    #[error("payment provider error: {0}")]
    Provider(String),
    /// The payment provider was not called, because its circuit breaker is open.
    #[error("the payment provider is unavailable")]
    ProviderUnavailable {
        /// How long to wait before trying again.
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
