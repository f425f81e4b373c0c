//! Backup and restore of an engine's directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    archive_file::ArchiveFile, engine::EmbeddedLedger, error::EmbeddedError, journal::Journal, snapshot,
};
use crate::ledger::LedgerRole;

impl EmbeddedLedger {
    /// Writes a consistent copy of the engine into a new or empty directory while it sells. The
    /// copy has everything answered before the call. Open it as it is, or copy it with [`restore`].
    ///
    /// Like a background snapshot, it is built from the files in a second state machine, so no
    /// caller waits for it. Runs on tokio's threads for blocking work.
    ///
    /// # Errors
    /// The engine is in memory only; the directory is not empty or not writable; the files are
    /// damaged.
    ///
    /// # Panics
    /// If the copying panics.
    pub async fn backup(&self, to: &Path) -> Result<(), EmbeddedError> {
        let (journal, directory) = self.files()?;
        let (shared, role, to) = (self.shared.clone(), self.role(), to.to_owned());
        let archive = self.archived().map_err(|_| EmbeddedError::Stopped(self.shared.reason()))?;
        let copied = tokio::task::spawn_blocking(move || {
            make_empty(&to)?;
            let loaded =
                shared.lock_snapshots(|| journal.load(directory.as_deref(), role, &archive, &|| true))?;
            // After the ledger: it may then store more than has left the ledger, but not less.
            archive.copy(&to)?;
            // Releases the files, so that the engine can be closed and reopened during the backup.
            drop((journal, archive));
            let loaded = loaded.expect("loading is never cancelled here");
            if loaded.row > 0 {
                snapshot::write(&to, loaded.row, &loaded.machine)?;
            }
            // The journal comes last: a directory with a snapshot but no journal cannot be opened.
            place_journal(&to, |partial| {
                Journal::open_file(partial.into(), role)?.initialise(role, loaded.row)
            })
        });
        match copied.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(EmbeddedError::unusable("the backup", "written", error)),
            },
        }
    }
}

/// Copies a backup into a new or empty directory and checks it by loading it. Blocks on the disk.
///
/// # Errors
/// `to` is not empty or not writable; the backup is unreadable, damaged or of another role.
pub fn restore(from: &Path, to: &Path, role: LedgerRole) -> Result<(), EmbeddedError> {
    make_empty(to)?;
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)
            .and_then(|_| fs::File::open(to)?.sync_all())
            .map_err(|error| EmbeddedError::unusable(from, "copied", error))
    };
    for (_, path) in snapshot::list(from)? {
        copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    let archive = from.join(ArchiveFile::FILE);
    // Backups of earlier versions have none.
    if archive.exists() {
        copy(&archive, &to.join(ArchiveFile::FILE))?;
    }
    place_journal(to, |partial| {
        copy(&from.join(Journal::FILE), partial)?;
        let journal = Journal::open_file(partial.into(), role)?;
        journal.load(Some(to), role, &ArchiveFile::open(to)?, &|| true).map(|_| ())
    })
}

/// Creates a directory; an existing one must be empty.
fn make_empty(directory: &Path) -> Result<(), EmbeddedError> {
    let unusable = |error| EmbeddedError::unusable(directory, "created", error);
    fs::create_dir_all(directory).map_err(unusable)?;
    if fs::read_dir(directory).map_err(unusable)?.next().is_some() {
        return Err(EmbeddedError::NotEmpty { path: directory.into() });
    }
    Ok(())
}

/// Writes a journal under a temporary name, and renames it once it is complete.
fn place_journal(
    directory: &Path,
    make: impl FnOnce(&Path) -> Result<(), EmbeddedError>,
) -> Result<(), EmbeddedError> {
    let path: PathBuf = directory.join(Journal::FILE);
    let partial = path.with_extension("partial");
    make(&partial)?;
    fs::rename(&partial, &path).map_err(|error| EmbeddedError::unusable(&path, "written", error))?;
    snapshot::sync_directory(directory)
}
