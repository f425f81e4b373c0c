//! Copies of an engine's directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{engine::EmbeddedLedger, error::EmbeddedError, journal::Journal, snapshot};
use crate::ledger::LedgerRole;

impl EmbeddedLedger {
    /// Writes a consistent copy of the engine into a new or empty directory while it sells: everything that was answered
    /// before the call is in it. The copy can be opened as it is, and [`restore`] puts it into another directory.
    ///
    /// It is made like a snapshot in the background: from the last snapshot and the journal, in a second book, so that
    /// nobody waits for it. It runs on the runtime's threads for blocking work.
    ///
    /// # Errors
    /// The engine is in memory only; the directory is not empty or cannot be written; the engine's own files are damaged.
    ///
    /// # Panics
    /// If the copy panics.
    pub async fn backup(&self, to: &Path) -> Result<(), EmbeddedError> {
        let (journal, directory) = self.files()?;
        let (shared, role, to) = (self.shared.clone(), self.role(), to.to_owned());
        let copied = tokio::task::spawn_blocking(move || {
            make_empty(&to)?;
            let loaded = shared.alone(|| journal.load(directory.as_deref(), role, &|| true))?;
            // From here on the engine may be closed, and its files opened by another.
            drop(journal);
            let loaded = loaded.expect("loading was not told to give up");
            if loaded.row > 0 {
                snapshot::write(&to, loaded.row, &loaded.machine)?;
            }
            // The journal comes last: without it a directory with a snapshot cannot be opened.
            place_journal(&to, |partial| {
                Journal::open_file(partial.into(), role)?.initialise(role, loaded.row)
            })
        });
        match copied.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(EmbeddedError::unusable("the backup", "made", error)),
            },
        }
    }
}

/// Puts a backup into a new or empty directory, and checks it: it is loaded as an engine would load it. What is in
/// `from` is left as it is.
///
/// This blocks on the disk.
///
/// # Errors
/// `to` is not empty or cannot be written; the backup cannot be read, is damaged, or is of another role.
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
    place_journal(to, |partial| {
        copy(&from.join(Journal::FILE), partial)?;
        let journal = Journal::open_file(partial.into(), role)?;
        journal.load(Some(to), role, &|| true).map(|_| ())
    })
}

/// Makes a directory, unless it is there and empty.
fn make_empty(directory: &Path) -> Result<(), EmbeddedError> {
    let unusable = |error| EmbeddedError::unusable(directory, "made", error);
    fs::create_dir_all(directory).map_err(unusable)?;
    if fs::read_dir(directory).map_err(unusable)?.next().is_some() {
        return Err(EmbeddedError::NotEmpty { path: directory.into() });
    }
    Ok(())
}

/// Makes a journal beside its name, and gives it the name once it is whole.
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
