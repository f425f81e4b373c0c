//! Online backup of a data directory, and restore into a new one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use flashsale_core::{
    catalogue::CatalogueError,
    embedded::{
        EmbeddedCatalogue, EmbeddedError, EmbeddedIdentities, EmbeddedLedger, EmbeddedQueue,
        restore as restore_ledger,
    },
    identities::IdentitiesError,
    ledger::LedgerRole,
    queue::QueueError,
};

use crate::auth::keyring::Keyring;

/// Why a backup or restore failed. The target may then hold an incomplete copy: do not use it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The ledger could not be copied.
    #[error(transparent)]
    Ledger(#[from] EmbeddedError),
    /// The catalogue could not be copied.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The job queue could not be copied.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The directory of identities could not be copied.
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    /// A file could not be copied.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The server keeps its data in memory.
    #[error("this server keeps its data in memory only (storage.in_memory): there is nothing to back up")]
    InMemory,
    /// The source directory is not a complete backup.
    #[error("not a backup: {} does not exist; give a directory that `backup` has written", path.display())]
    NotABackup {
        /// The missing file.
        path: PathBuf,
    },
}

/// Backs up a deployment while it is running.
#[async_trait]
pub trait Backup: Send + Sync + std::fmt::Debug {
    /// Writes a copy into a new or empty directory.
    ///
    /// # Errors
    /// [`BackupError`]; the target may then hold an incomplete copy.
    async fn write(&self, to: &Path) -> Result<(), BackupError>;
}

/// Backs up the embedded stores in a data directory.
#[derive(Debug)]
pub struct EmbeddedBackup {
    /// The ledger.
    pub ledger: Arc<EmbeddedLedger>,
    /// The job queue.
    pub queue: EmbeddedQueue,
    /// The catalogue.
    pub catalogue: Arc<EmbeddedCatalogue>,
    /// The texts of users.
    pub identities: EmbeddedIdentities,
    /// The data directory.
    pub directory: PathBuf,
}

#[async_trait]
impl Backup for EmbeddedBackup {
    /// The copy contains every change that the ledger acknowledged before the call. The catalogue
    /// may be newer than the ledger; publishing at the next start brings the ledger up to date.
    /// Jobs that finish after the ledger was copied run again after a restore.
    async fn write(&self, to: &Path) -> Result<(), BackupError> {
        self.ledger.backup(to).await?;
        self.queue.backup(&to.join(EmbeddedQueue::FILE)).await?;
        self.identities.backup(&to.join(EmbeddedIdentities::FILE)).await?;
        copy_secrets(&self.directory, to)?;
        // The catalogue comes last: its presence marks the backup as complete.
        self.catalogue.backup(&to.join(EmbeddedCatalogue::FILE)).await?;
        Ok(())
    }
}

/// Restores a backup into a new or empty data directory. Blocks on disk I/O.
///
/// # Errors
/// [`BackupError`]; the backup itself is not changed.
pub fn restore(from: &Path, to: &Path) -> Result<(), BackupError> {
    let catalogue = from.join(EmbeddedCatalogue::FILE);
    if !catalogue.exists() {
        return Err(BackupError::NotABackup { path: catalogue });
    }
    restore_ledger(from, to, LedgerRole::Single)?;
    copy_secrets(from, to)?;
    // Backups of earlier versions contain no jobs, and no identities, because users had numbers only.
    // Refunds that are due are found in the ledger.
    for name in [EmbeddedQueue::FILE, EmbeddedIdentities::FILE] {
        let file = from.join(name);
        if file.exists() {
            copy(&file, &to.join(name))?;
        }
    }
    copy(&catalogue, &to.join(EmbeddedCatalogue::FILE))?;
    fs::File::open(to)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| BackupError::File { path: to.to_owned(), source })
}

fn copy_secrets(from: &Path, to: &Path) -> Result<(), BackupError> {
    let path = from.join(Keyring::FILE);
    // `fs::copy` keeps the permissions: only the owner can read the copy.
    if path.exists() { copy(&path, &to.join(Keyring::FILE)) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::copy(from, to)
        .and_then(|_| fs::File::open(to)?.sync_all())
        .map_err(|source| BackupError::File { path: to.to_owned(), source })
}
