//! Errors of a directory of identities.

/// Why a directory of identities could not be used. Every call can be repeated.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentitiesError {
    /// The store cannot be used, or the outcome of a write is unknown.
    #[error("the directory of identities cannot be used: {0}")]
    Unavailable(String),
    /// A newer version of this software wrote the store, which was left as it is.
    #[error(
        "the directory of identities has format {found}, this version reads {supported}: use the version that \
         wrote it"
    )]
    Newer {
        /// The format of the store.
        found: u64,
        /// The format of this version.
        supported: u64,
    },
    /// The content of the store is invalid. It was left as it is.
    #[error(
        "the directory of identities is damaged: {0}: restore its file from a backup. It holds the key by which \
         users are numbered; with a new file they would not find their orders"
    )]
    Damaged(String),
}
