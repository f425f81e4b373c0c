//! Files of the embedded store: how one is opened, and what its errors mean.

use std::{error::Error, fs, io, path::Path};

use redb::{
    Database, DatabaseError, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition, TableError, Value, WriteTransaction,
};

use crate::panic_message::panic_message;

/// Why a file of the store could not be used. Nothing was changed, unless it says otherwise.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// It cannot be used now.
    Unavailable { reason: String, retry: bool, source: Option<Box<dyn Error + Send + Sync>> },
    /// It holds what it cannot hold.
    Damaged(String),
    /// It failed in the middle: nobody knows what was done.
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

/// Opens the file `name` of a directory; both are made if they are not there. `prepare` looks at the content, and writes the
/// first one.
///
/// A new file gets its name only when its first content is on the disk, so a crash in between leaves nothing that the next
/// start would have to take for an empty store.
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
        StoreError::unavailable(format!("the directory {} cannot be made", directory.display()), false, error)
    })?;
    match fs::metadata(&path) {
        // The store would take it for a new one.
        Ok(file) if file.len() == 0 => {
            let reason = format!("{}: it is empty; remove it if it never had content", path.display());
            return Err(StoreError::Damaged(reason).into());
        }
        Ok(_) => return prepare(create(&path, cache_bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", false, error).into()),
    }
    // Held open, and so locked, from here on: a second process that is here too does not get it. A file that a crash has
    // left is none of anybody's, and a lock on it would be the other process's.
    let aside = directory.join(format!("{name}.new"));
    let opened = prepare(create(&aside, cache_bytes)?)?;
    // A link does not replace a file that another process has put there meanwhile.
    let named = fs::hard_link(&aside, &path);
    fs::remove_file(&aside).map_err(|error| failed("made", true, error))?;
    named.map_err(|error| failed("made", true, error))?;
    sync_directory(directory)?;
    Ok(opened)
}

/// Opens a file as it is, or makes it.
pub(crate) fn create(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(cache_bytes).create(path).map_err(|error| cannot_open(path, error))
}

/// A new name in a directory survives a power cut only when the directory itself is on the disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| {
        let reason = format!("the directory {} cannot be written", directory.display());
        StoreError::unavailable(reason, true, error)
    })
}

/// The table of every file in which its format stands, as [`FORMAT`].
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The key of the format in [`META`].
pub(crate) const FORMAT: &str = "format";

/// The format of a file; `None` for one without content. `what` it should be is told if it is something else.
pub(crate) fn format_of(database: &Database, what: &str) -> Result<Option<u64>, StoreError> {
    let reading = database.begin_read().map_err(storage)?;
    let is_empty = reading.list_tables().map_err(storage)?.next().is_none();
    let format = match reading.open_table(META) {
        Ok(meta) => meta.get(FORMAT).map_err(storage)?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(storage(error)),
    };
    match format {
        None if !is_empty => Err(StoreError::Damaged(format!("the file is not a {what}, it has no format"))),
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

/// Does work that waits for the disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            // A page that makes the store panic must not end who asked, and all that they do besides.
            Ok(panic) => Err(StoreError::Unknown(panic_message(&*panic).into()).into()),
            // Only work that was not begun is cancelled.
            Err(error) => {
                Err(StoreError::unavailable("the runtime is shutting down".to_owned(), false, error).into())
            }
        },
    }
}

/// Why a file cannot be opened.
pub(crate) fn cannot_open(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::unavailable(
            format!("{path} is in use by another process; stop it, or send the command to it"),
            false,
            error,
        ),
        DatabaseError::UpgradeRequired(_) => {
            let reason = "has a file format that this version does not read; use the version that wrote it";
            StoreError::unavailable(format!("{path} {reason}"), false, error)
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
            StoreError::unavailable(format!("{path} cannot be opened"), false, error)
        }
        error => StoreError::Damaged(format!("{path}: {error}")),
    }
}

/// What went wrong before a commit: nothing was changed.
pub(crate) fn storage(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(reason) => StoreError::Damaged(reason),
        error @ redb::Error::PreviousIo => {
            let reason = "an earlier write failed; see to the disk and open it again";
            StoreError::unavailable(reason.to_owned(), false, error)
        }
        error => StoreError::unavailable("its storage failed".to_owned(), true, error),
    }
}
