//! Errors of opening, closing and copying an engine.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use crate::ledger::LedgerRole;

/// Why an engine could not be opened, closed, backed up or restored. In every case what was on the disk is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The disk or its permissions do not allow it.
    #[error("{} cannot be {what}: {source}; check that it exists, its owner, its permissions and the free space", path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: `read`, `written`.
        what: &'static str,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process, or another engine of this one, has it open.
    #[error("{} is in use by another process; stop it, or send the command to it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{} has format {found}, and this version reads up to {supported}; use the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The highest format that can be read.
        supported: u64,
    },
    /// The directory belongs to a ledger with another part to play.
    #[error("{} belongs to a ledger of role {found:?}, not {wanted:?}; open another directory", path.display())]
    OtherRole {
        /// The file.
        path: PathBuf,
        /// The role that it was made for.
        found: LedgerRole,
        /// The role that was asked for.
        wanted: LedgerRole,
    },
    /// What is there cannot be right.
    #[error("{} is damaged: {reason}; keep a copy of the directory, and restore a backup into an empty one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The target of a backup or a restore holds something.
    #[error("{} is not empty, and nothing is overwritten; name an empty or a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An engine in memory has nothing on a disk.
    #[error("the engine keeps its orders in memory only; open it with a directory to back it up")]
    InMemory,
    /// The engine has stopped, or was closed.
    #[error("the engine has stopped: {0}; start the process again")]
    Stopped(Arc<str>),
}

impl EmbeddedError {
    pub(super) fn unusable(
        path: impl Into<PathBuf>,
        what: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unusable { path: path.into(), what, source: source.into() }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), reason: reason.into() }
    }

    /// What an error of redb means.
    pub(super) fn of_store(
        path: impl Into<PathBuf>,
        what: &'static str,
        error: impl Into<redb::Error>,
    ) -> Self {
        let path = path.into();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::InUse { path },
            redb::Error::UpgradeRequired(found) => {
                Self::Damaged { path, reason: format!("the store has the unknown format {found}") }
            }
            redb::Error::Io(error) if is_about_content(&error) => {
                Self::Damaged { path, reason: error.to_string() }
            }
            error @ (redb::Error::Io(_) | redb::Error::Backend(_) | redb::Error::PreviousIo) => {
                Self::Unusable { path, what, source: error.into() }
            }
            error => Self::Damaged { path, reason: error.to_string() },
        }
    }
}

/// Whether an error is about what was read, not about reading.
fn is_about_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
