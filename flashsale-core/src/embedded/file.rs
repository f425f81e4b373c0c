//! Opening the redb files of the embedded store, and mapping redb's errors.

use std::{error::Error, fs, io, path::Path};

use redb::{
    Database, DatabaseError, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, Value, WriteTransaction,
};

use crate::panic_message::panic_message;

/// Why a file of the store could not be used. Only [`Self::Unknown`] may have changed something.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The file cannot be used at present.
    Unavailable { reason: String, retry: bool, source: Option<Box<dyn Error + Send + Sync>> },
    /// The file's content is invalid.
    Damaged(String),
    /// The operation panicked half-way, so it is unknown whether anything was changed.
    Unknown(Box<dyn Error + Send + Sync>),
}

impl StoreError {
    pub(crate) fn unavailable(
        reason: String,
        retry: bool,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { reason: format!("{reason}: {source}"), retry, source: Some(Box::new(source)) }
    }
}

/// Opens the file `name` in a directory, creating both if they are missing. `prepare` checks the
/// content, or writes the initial content of a new file.
///
/// A new file is linked under its name only after its initial content is on disk. A crash in
/// between therefore cannot leave a file that the next start would mistake for an empty store.
pub(crate) fn open<T, E: From<StoreError>>(
    directory: &Path,
    name: &str,
    cache_bytes: usize,
    prepare: impl FnOnce(Database) -> Result<T, E>,
) -> Result<T, E> {
    let path = directory.join(name);
    let failed = |what: &str, retry, error: io::Error| {
        StoreError::unavailable(format!("{} cannot be {what}", path.display()), retry, error)
    };
    fs::create_dir_all(directory).map_err(|error| {
        StoreError::unavailable(format!("directory {} cannot be created", directory.display()), false, error)
    })?;
    match fs::metadata(&path) {
        // redb would treat it as a new database.
        Ok(file) if file.len() == 0 => {
            let reason = format!("{} is empty; remove it if it never had content", path.display());
            return Err(StoreError::Damaged(reason).into());
        }
        Ok(_) => return prepare(create(&path, cache_bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", false, error).into()),
    }
    // redb locks this file while it is open, so of two processes that start together one fails
    // here. A file left behind by a crash is not locked and is reused.
    let pending = directory.join(format!("{name}.new"));
    let opened = prepare(create(&pending, cache_bytes)?)?;
    // Linking, unlike renaming, fails if another process has created `path` in the meantime.
    let named = fs::hard_link(&pending, &path);
    fs::remove_file(&pending).map_err(|error| failed("created", true, error))?;
    named.map_err(|error| failed("created", true, error))?;
    sync_directory(directory)?;
    Ok(opened)
}

/// Opens an existing file, or creates it.
pub(crate) fn create(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(cache_bytes).create(path).map_err(|error| cannot_open(path, error))
}

/// Syncs a directory. A new file name survives a power cut only after its directory was synced.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| {
        let reason = format!("directory {} cannot be written", directory.display());
        StoreError::unavailable(reason, true, error)
    })
}

/// The table that every file has; it holds the file's format number under [`FORMAT`].
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The key of the format number in [`META`].
pub(crate) const FORMAT: &str = "format";

/// Reads the format number of a file; `None` if the file is empty. `what` is the expected content.
pub(crate) fn format_of(database: &Database, what: &str) -> Result<Option<u64>, StoreError> {
    let reading = database.begin_read().map_err(storage)?;
    let is_empty = reading.list_tables().map_err(storage)?.next().is_none();
    let format = match reading.open_table(META) {
        Ok(meta) => meta.get(FORMAT).map_err(storage)?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(storage(error)),
    };
    match format {
        None if !is_empty => Err(StoreError::Damaged(format!("the file is not a {what}: it has no format"))),
        format => Ok(format),
    }
}

/// Copies a table.
pub(crate) fn copy_table<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'_, K, V>,
    from: &ReadTransaction,
    to: &WriteTransaction,
) -> Result<(), StoreError> {
    let mut copy = to.open_table(definition).map_err(storage)?;
    for row in from.open_table(definition).map_err(storage)?.iter().map_err(storage)? {
        let (key, value) = row.map_err(storage)?;
        copy.insert(key.value(), value.value()).map_err(storage)?;
    }
    Ok(())
}

/// Runs work that waits for the disk on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            // A damaged page can make redb panic. That must not take down the caller.
            Ok(panic) => Err(StoreError::Unknown(panic_message(&*panic).into()).into()),
            // A blocking task is only cancelled before it starts.
            Err(error) => {
                Err(StoreError::unavailable("the runtime is shutting down".to_owned(), false, error).into())
            }
        },
    }
}

/// Maps redb's errors of opening a file.
pub(crate) fn cannot_open(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::unavailable(
            format!("{path} is in use by another process; stop it, or send the command to it"),
            false,
            error,
        ),
        DatabaseError::UpgradeRequired(_) => {
            let reason = "has a file format that this version cannot read; use the version that wrote it";
            StoreError::unavailable(format!("{path} {reason}"), false, error)
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
            StoreError::unavailable(format!("{path} cannot be opened"), false, error)
        }
        error => StoreError::Damaged(format!("{path}: {error}")),
    }
}

/// Maps an error that occurred before a commit: nothing was changed.
pub(crate) fn storage(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(reason) => StoreError::Damaged(reason),
        error @ redb::Error::PreviousIo => {
            let reason = "an earlier write failed; check the disk and open it again";
            StoreError::unavailable(reason.to_owned(), false, error)
        }
        error => StoreError::unavailable("a storage operation failed".to_owned(), true, error),
    }
}
