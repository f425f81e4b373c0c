//! The journal: a table of rows in `ledger.redb`, one row per commit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};

use super::{archive_file::ArchiveFile, error::EmbeddedError, snapshot};
use crate::{
    domain::ActivityId,
    ledger::{
        LedgerRole,
        state_machine::{CorruptState, StateMachine, StoredActivity},
    },
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Rows by number, from 1 without gaps; rows that a snapshot contains are deleted over time. A row
/// has the changes of one commit, as [`StateMachine::take_journal`] returns them.
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// The format of tables, records and images that this version writes. Higher ones are refused.
/// Format 1 has records that do not say their own format.
const FORMAT: u64 = 2;

/// The size of redb's page cache. It has to hold a commit; rows are only read at start.
const CACHE_BYTES: usize = 16 << 20;

/// Maximum rows that a commit deletes. More than the one it adds, so that the journal shrinks, but
/// few, so that commits stay fast.
const TRIMMED_PER_COMMIT: u64 = 4;

const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// An open journal.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    database: Arc<Database>,
    path: PathBuf,
}

/// A state machine loaded from a snapshot and the journal.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) machine: StateMachine,
    /// The last row applied to the state machine.
    pub(super) row: u64,
    /// The last row of the snapshot that was loaded; 0 without a snapshot.
    pub(super) snapshot: u64,
    /// Total size of the replayed rows.
    pub(super) replayed_bytes: u64,
    /// The last row deleted from the journal.
    pub(super) trimmed: u64,
}

impl Journal {
    /// The name of the file in the data directory.
    pub(super) const FILE: &'static str = "ledger.redb";

    /// Opens the journal of a directory. Creates one only if the directory has no snapshot.
    pub(super) fn open(directory: &Path, role: LedgerRole) -> Result<Self, EmbeddedError> {
        let path = directory.join(Self::FILE);
        let is_new = match fs::metadata(&path) {
            // redb would treat it as a new database, and every unit would be sold again.
            Ok(file) if file.len() == 0 => {
                return Err(EmbeddedError::damaged(path, "it is empty; remove it if it never had content"));
            }
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(EmbeddedError::unusable(path, "read", error)),
        };
        if is_new && let Some((_, snapshot)) = snapshot::list(directory)?.first() {
            let reason = format!("it is missing, but there is a snapshot, {}", snapshot.display());
            return Err(EmbeddedError::damaged(path, reason));
        }
        let journal = Self::open_file(path, role)?;
        if is_new {
            snapshot::sync_directory(directory)?;
        }
        Ok(journal)
    }

    pub(super) fn open_file(path: PathBuf, role: LedgerRole) -> Result<Self, EmbeddedError> {
        let database =
            builder().create(&path).map_err(|error| EmbeddedError::of_store(&path, "opened", error))?;
        Self::prepare(database, path, role)
    }

    /// Opens a journal on a backend for tests.
    #[cfg(test)]
    pub(super) fn with_backend(
        backend: impl redb::StorageBackend,
        path: PathBuf,
        role: LedgerRole,
    ) -> Result<Self, EmbeddedError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| EmbeddedError::of_store(&path, "opened", error))?;
        Self::prepare(database, path, role)
    }

    /// Checks format and role, or initialises an empty file.
    fn prepare(database: Database, path: PathBuf, role: LedgerRole) -> Result<Self, EmbeddedError> {
        let journal = Self { database: Arc::new(database), path };
        let reading = journal.begin_read()?;
        let is_empty = journal.check(reading.list_tables())?.next().is_none();
        let Some(found) = journal.meta(&reading, "format")? else {
            if !is_empty {
                return Err(journal.damaged("it is not a ledger: it has no format number"));
            }
            journal.initialise(role, 0)?;
            return Ok(journal);
        };
        if found > FORMAT {
            return Err(EmbeddedError::Newer { path: journal.path, found, supported: FORMAT });
        }
        let is_older = found < FORMAT;
        let found = journal.meta(&reading, "role")?.and_then(role_of);
        drop(reading);
        match found {
            Some(found) if found == role => {
                if is_older {
                    // An earlier version must not take what is written from now on for damage.
                    journal.set_format()?;
                }
                Ok(journal)
            }
            Some(found) => Err(EmbeddedError::OtherRole { path: journal.path, found, wanted: role }),
            None => Err(journal.damaged("its role is unknown")),
        }
    }

    fn set_format(&self) -> Result<(), EmbeddedError> {
        let writing = self.check(self.database.begin_write())?;
        self.check(self.check(writing.open_table(META))?.insert("format", FORMAT))?;
        self.check(writing.commit())
    }

    /// Initialises an empty file. `trimmed` is the last row that its snapshot contains, or 0.
    pub(super) fn initialise(&self, role: LedgerRole, trimmed: u64) -> Result<(), EmbeddedError> {
        let writing = self.check(self.database.begin_write())?;
        {
            let mut meta = self.check(writing.open_table(META))?;
            for (name, value) in [("format", FORMAT), ("role", number_of(role)), ("trimmed", trimmed)] {
                self.check(meta.insert(name, value))?;
            }
            self.check(writing.open_table(JOURNAL))?;
        }
        self.check(writing.commit())
    }

    /// Appends a row and waits for the sync. Also deletes a few rows, none beyond `trim_to`;
    /// `trimmed` is the last deleted row.
    pub(super) fn append(
        &self,
        row: u64,
        bytes: &[u8],
        trimmed: &mut u64,
        trim_to: u64,
    ) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut journal = writing.open_table(JOURNAL)?;
            journal.insert(row, bytes)?;
            let last = trim_to.min(*trimmed + TRIMMED_PER_COMMIT);
            if *trimmed < last {
                for old in *trimmed + 1..=last {
                    journal.remove(old)?;
                }
                writing.open_table(META)?.insert("trimmed", last)?;
                *trimmed = last;
            }
        }
        Ok(writing.commit()?)
    }

    /// Deletes all rows, of which `row` is the last, once a snapshot contains them.
    pub(super) fn clear(&self, row: u64) -> Result<(), EmbeddedError> {
        let writing = self.check(self.database.begin_write())?;
        self.check(writing.delete_table(JOURNAL))?;
        self.check(writing.open_table(JOURNAL))?;
        self.check(self.check(writing.open_table(META))?.insert("trimmed", row))?;
        self.check(writing.commit())
    }

    /// Loads the newest snapshot and replays the rows after it. Rows committed during the call are
    /// ignored. Returns `None` if `proceed` returned `false`. A damaged snapshot is skipped if
    /// the journal still has all rows after an older one, or all rows.
    pub(super) fn load(
        &self,
        directory: Option<&Path>,
        role: LedgerRole,
        archive: &ArchiveFile,
        proceed: &dyn Fn() -> bool,
    ) -> Result<Option<Loaded>, EmbeddedError> {
        let reading = self.begin_read()?;
        let trimmed = self.meta(&reading, "trimmed")?.unwrap_or(0);
        let table = self.check(reading.open_table(JOURNAL))?;
        let last = self.check(table.last())?.map_or(0, |(row, _)| row.value()).max(trimmed);
        let (mut machine, snapshot) = self.begin(directory, role, trimmed, last)?;
        let stored = archive.stored()?;
        let is_older = |(activity, image): &(ActivityId, StoredActivity)| {
            stored.get(activity).is_none_or(|stored| stored.events < image.events)
        };
        if let Some((older, _)) = machine.archived().find(is_older) {
            let reason =
                format!("activity {older}, which was moved there, is missing or older than the ledger");
            return Err(archive.damaged(reason));
        }
        machine.set_archived(stored);
        let mut unread = None;
        let mut loaded = Loaded { machine, row: snapshot, snapshot, replayed_bytes: 0, trimmed };
        let rows = last - snapshot;
        let mut reported = Instant::now();
        for entry in self.check(table.range(snapshot + 1..))? {
            let (row, bytes) = self.check(entry)?;
            if row.value() != loaded.row + 1 {
                return Err(self.damaged(format!("row {} is missing", loaded.row + 1)));
            }
            loaded.row = row.value();
            loaded.replayed_bytes += bytes.value().len() as u64;
            if row.value() == last && mutant!("last-row-not-replayed") {
                continue;
            }
            let mut stored = |activity| {
                archive.returning(activity).map_err(|error| {
                    unread = Some(error);
                    CorruptState("an archived activity cannot be read")
                })
            };
            let replayed = loaded.machine.replay_with(bytes.value(), &mut stored);
            replayed.map_err(|error| {
                unread.take().unwrap_or_else(|| self.damaged(format!("row {}: {error}", row.value())))
            })?;
            if reported.elapsed() > PROGRESS_EVERY {
                reported = Instant::now();
                tracing::info!(replayed = loaded.row - snapshot, of = rows, "replaying the journal");
            }
            if !proceed() {
                return Ok(None);
            }
        }
        if loaded.row != last {
            return Err(self.damaged(format!("rows {} to {last} are missing", loaded.row + 1)));
        }
        Ok(Some(loaded))
    }

    /// Loads the newest usable snapshot. Returns its state machine and its last row.
    fn begin(
        &self,
        directory: Option<&Path>,
        role: LedgerRole,
        trimmed: u64,
        last: u64,
    ) -> Result<(StateMachine, u64), EmbeddedError> {
        let snapshots = directory.map(snapshot::list).transpose()?.unwrap_or_default();
        if let Some((row, newest)) = snapshots.first()
            && *row > last
        {
            return Err(self.damaged(format!("it ends at row {last}, before {}", newest.display())));
        }
        let mut failure = None;
        for (row, path) in snapshots.iter().filter(|(row, _)| *row >= trimmed) {
            match snapshot::read(path, role) {
                Ok(machine) => return Ok((machine, *row)),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot is skipped because it cannot be used");
                    failure.get_or_insert(error);
                }
            }
        }
        if trimmed == 0 {
            return Ok((StateMachine::new(role), 0));
        }
        Err(failure.unwrap_or_else(|| self.damaged(format!("the snapshot of row {trimmed} is missing"))))
    }

    fn begin_read(&self) -> Result<ReadTransaction, EmbeddedError> {
        self.check(self.database.begin_read())
    }

    fn meta(&self, reading: &ReadTransaction, name: &str) -> Result<Option<u64>, EmbeddedError> {
        match reading.open_table(META) {
            Ok(meta) => Ok(self.check(meta.get(name))?.map(|value| value.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => self.check(Err(error)),
        }
    }

    fn check<T, E: Into<redb::Error>>(&self, result: Result<T, E>) -> Result<T, EmbeddedError> {
        result.map_err(|error| EmbeddedError::of_store(&self.path, "used", error))
    }

    fn damaged(&self, reason: impl Into<String>) -> EmbeddedError {
        EmbeddedError::damaged(&self.path, reason)
    }
}

/// Makes redb verify every page on opening. By default it trusts a file that was closed cleanly.
fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).set_repair_callback(|repair| {
        // redb reports this progress only if the last commit fails the check and has to be dropped.
        if (0.2..0.5).contains(&repair.progress()) {
            tracing::warn!("the last commit was incomplete and is dropped; it was never acknowledged");
        }
    });
    builder
}

fn number_of(role: LedgerRole) -> u64 {
    match role {
        LedgerRole::Single => 0,
        LedgerRole::Gate => 1,
        LedgerRole::Truth => 2,
    }
}

fn role_of(number: u64) -> Option<LedgerRole> {
    [LedgerRole::Single, LedgerRole::Gate, LedgerRole::Truth]
        .into_iter()
        .find(|role| number_of(*role) == number)
}
