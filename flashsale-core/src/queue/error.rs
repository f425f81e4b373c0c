//! Errors of a queue.

use std::error::Error;

use super::MAX_BATCH;

/// Why a queue call failed. Only [`QueueError::Unknown`] may have changed something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The call has more items than [`MAX_BATCH`].
    #[error("{0} items in one call to a queue; at most {MAX_BATCH} are allowed")]
    TooMany(usize),
    /// The store cannot be used.
    #[error("the queue cannot be used: {reason}")]
    Unavailable {
        /// What is wrong, and what to do about it.
        reason: String,
        /// Whether the same call may succeed a little later.
        retry: bool,
        /// The store's error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The commit failed; its outcome is unknown. Repeat the call.
    #[error("the outcome of the call to the queue is unknown: repeat it")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
    /// A newer version of this software wrote the store, which was left as it is.
    #[error("the queue has format {found}, this version reads {supported}: use the version that wrote it")]
    Newer {
        /// The format of the store.
        found: u64,
        /// The format of this version.
        supported: u64,
    },
    /// The content of the store is invalid. It was left as it is.
    #[error(
        "the queue is damaged: {0}: move its file aside and start again. Due refunds are queued again from the \
         ledger, but dead letters and undelivered notifications are lost"
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

    /// Refuses a call with more than [`MAX_BATCH`] items.
    pub(crate) fn bound(items: usize) -> Result<(), Self> {
        if items > MAX_BATCH { Err(Self::TooMany(items)) } else { Ok(()) }
    }
}
