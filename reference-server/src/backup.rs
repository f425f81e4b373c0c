//! Backup of a data directory in use, and restore into a new one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use flashsale_core::{
    catalogue::CatalogueError,
    embedded::{EmbeddedCatalogue, EmbeddedError, EmbeddedLedger, EmbeddedQueue, restore as restore_ledger},
    ledger::LedgerRole,
    queue::QueueError,
};

use crate::auth::keyring::Keyring;

/// Why a backup or a restore was not made. What is in the target then is not whole: remove it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] EmbeddedError),
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The queue of jobs.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server keeps nothing that could be copied.
    #[error("this server keeps its data in memory only: there is nothing to back up")]
    InMemory,
    /// The directory is not a backup.
    #[error("{} is not there: name a directory that a backup has written", path.display())]
    NotABackup {
        /// What is missing.
        path: PathBuf,
    },
}

/// Copies what a deployment keeps while it is in use.
#[async_trait]
pub trait Backup: Send + Sync + std::fmt::Debug {
    /// Writes a copy into a new or empty directory.
    ///
    /// # Errors
    /// [`BackupError`].
    async fn write(&self, to: &Path) -> Result<(), BackupError>;
}

/// What there is to copy of a data directory.
#[derive(Debug)]
pub struct EmbeddedBackup {
    /// Its ledger.
    pub ledger: Arc<EmbeddedLedger>,
    /// Its jobs.
    pub queue: EmbeddedQueue,
    /// Its catalogue.
    pub catalogue: Arc<EmbeddedCatalogue>,
    /// Where it is.
    pub directory: PathBuf,
}

#[async_trait]
impl Backup for EmbeddedBackup {
    /// What the ledger answered before is in the copy; the catalogue's is the same or newer, which publishing at the next
    /// start makes up for. A job that was done after the copy of the ledger is done again.
    async fn write(&self, to: &Path) -> Result<(), BackupError> {
        self.ledger.backup(to).await?;
        self.queue.backup(&to.join(EmbeddedQueue::FILE)).await?;
        copy_secrets(&self.directory, to)?;
        // The catalogue comes last: a directory without it is no backup.
        self.catalogue.backup(&to.join(EmbeddedCatalogue::FILE)).await?;
        Ok(())
    }
}

/// Puts a backup into a new or empty data directory. This blocks on the disk.
///
/// # Errors
/// [`BackupError`]; the backup stays as it is.
pub fn restore(from: &Path, to: &Path) -> Result<(), BackupError> {
    let catalogue = from.join(EmbeddedCatalogue::FILE);
    if !catalogue.exists() {
        return Err(BackupError::NotABackup { path: catalogue });
    }
    restore_ledger(from, to, LedgerRole::Single)?;
    copy_secrets(from, to)?;
    // Backups of earlier versions have no jobs: refunds that are due are found in the ledger.
    let jobs = from.join(EmbeddedQueue::FILE);
    if jobs.exists() {
        copy(&jobs, &to.join(EmbeddedQueue::FILE))?;
    }
    copy(&catalogue, &to.join(EmbeddedCatalogue::FILE))?;
    fs::File::open(to)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| BackupError::File { path: to.to_owned(), source })
}

fn copy_secrets(from: &Path, to: &Path) -> Result<(), BackupError> {
    let path = from.join(Keyring::FILE);
    // Permissions are copied too: only the owner can read it.
    if path.exists() { copy(&path, &to.join(Keyring::FILE)) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::copy(from, to)
        .and_then(|_| fs::File::open(to)?.sync_all())
        .map_err(|source| BackupError::File { path: to.to_owned(), source })
}
