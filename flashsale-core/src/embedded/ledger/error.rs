//! Errors of opening, closing and copying an engine.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use crate::ledger::LedgerRole;

/// Why an engine could not be opened, closed, backed up or restored. Nothing on disk was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// A file or directory cannot be accessed.
    #[error("{} cannot be {what}: {source}; check that it exists, its owner and permissions, and the free space", path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What could not be done, as a participle: `read`, `written`.
        what: &'static str,
        /// The system's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process, or another engine in this one, has the file open.
    #[error("{} is in use by another process; stop it, or send the command to it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{} has format {found}, but this version reads only up to {supported}; use the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The highest format that can be read.
        supported: u64,
    },
    /// The directory belongs to a ledger of another role.
    #[error("{} belongs to a ledger of role {found:?}, not {wanted:?}; use another directory", path.display())]
    OtherRole {
        /// The file.
        path: PathBuf,
        /// The role that the directory was created for.
        found: LedgerRole,
        /// The requested role.
        wanted: LedgerRole,
    },
    /// The content of a file is invalid.
    #[error("{} is damaged: {reason}; keep a copy of the directory, and restore a backup into an empty one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The target directory of a backup or a restore is not empty.
    #[error("{} is not empty, and nothing is overwritten; use a new or empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An engine without a journal cannot be backed up.
    #[error("the engine is in memory only and cannot be backed up; open it with a directory instead")]
    InMemory,
    /// The engine has stopped, or was closed.
    #[error("the engine has stopped: {0}; restart the process")]
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

    /// Maps an error of redb.
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

/// Whether an I/O error means that the content is invalid, not that the access failed.
fn is_about_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
