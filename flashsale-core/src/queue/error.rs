//! Why a queue did not do what it was asked.

use std::error::Error;

use super::MAX_BATCH;

/// Why a queue did not do what it was asked.
///
/// After every error but [`QueueError::Unknown`] it is certain that nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The call has more items than [`MAX_BATCH`].
    #[error("{0} items in one call to a queue, at most {MAX_BATCH} are allowed")]
    TooMany(usize),
    /// The store cannot be used.
    #[error("the queue cannot be used: {reason}")]
    Unavailable {
        /// What is wrong and what helps.
        reason: String,
        /// Whether the same call may succeed a little later.
        retry: bool,
        /// What the store said.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The commit failed, and only a repetition can tell whether it was done.
    #[error("the queue may or may not have done it: repeat it")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
    /// The store was written by a newer version of this software. It was left as it is.
    #[error("the queue has format {found}, this version reads {supported}: use the version that wrote it")]
    Newer {
        /// The format of the store.
        found: u64,
        /// The format of this version.
        supported: u64,
    },
    /// The store holds what it cannot hold. It was left as it is.
    #[error(
        "the queue is damaged: {0}: move its file aside and start again. Refunds that are due come back from the ledger; what \
         is lost are dead letters, and notifications that were not delivered"
    )]
    Damaged(String),
}

impl QueueError {
    /// Whether it is certain that nothing was changed.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Whether the same call may succeed a little later.
    pub fn retry_may_help(&self) -> bool {
        matches!(self, Self::Unavailable { retry: true, .. } | Self::Unknown(_))
    }

    /// Refuses a call with more items than allowed.
    pub(crate) fn bound(items: usize) -> Result<(), Self> {
        if items > MAX_BATCH { Err(Self::TooMany(items)) } else { Ok(()) }
    }
}
