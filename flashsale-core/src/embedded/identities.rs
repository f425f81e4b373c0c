//! The directory of identities in one redb file.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};
use tokio::sync::{Mutex as Turn, oneshot};

use crate::{
    domain::{Identity, IdentityKey, UserId},
    embedded::file::{self, META, StoreError, blocking},
    identities::{Identities, IdentitiesError, Remembered},
};

/// The size of redb's page cache: about a hundred thousand identities.
const CACHE_BYTES: usize = 16 << 20;

/// Identities by the user's number.
const IDENTITIES: TableDefinition<'_, u64, &str> = TableDefinition::new("identities");
/// The key of the digests, in its only row.
const KEY: TableDefinition<'_, (), [u8; 32]> = TableDefinition::new("key");

/// The format that this version writes. Higher ones are refused.
const FORMAT: u64 = 1;

/// The [`Identities`] of a data directory, in one file, `identities.redb`, or in memory.
///
/// Calls that arrive while one is written share the next commit, so that a crowd that asks for
/// tickets waits for a few commits and not for thousands.
#[derive(Clone, Debug)]
pub struct EmbeddedIdentities(Arc<Store>);

#[derive(Debug)]
struct Store {
    database: Arc<Database>,
    key: IdentityKey,
    /// What the next commit writes. Each waiting call has at most one entry.
    waiting: Mutex<Vec<Entry>>,
    /// Held by the call that commits.
    turn: Turn<()>,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    identity: Identity,
    answer: oneshot::Sender<Result<Remembered, IdentitiesError>>,
}

impl EmbeddedIdentities {
    /// The name of the file in the data directory.
    pub const FILE: &'static str = "identities.redb";

    /// Opens the file of a data directory, creating directory and file if they are missing; a new
    /// file gets a random key. Blocks on the disk; call it before serving starts.
    ///
    /// # Errors
    /// [`IdentitiesError`]; existing files are left as they are.
    pub fn open(directory: &Path) -> Result<Self, IdentitiesError> {
        file::open(directory, Self::FILE, CACHE_BYTES, Self::prepare)
    }

    /// Creates an empty directory in memory. It is lost with its last clone.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be created.
    pub fn in_memory() -> Result<Self, IdentitiesError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| file::cannot_open(Path::new(Self::FILE), error))?;
        Self::prepare(database)
    }

    /// Writes a consistent copy, with the key, to `path` while the directory is in use. To restore,
    /// replace `identities.redb` while no process has it open.
    ///
    /// # Errors
    /// `Unavailable` if `path` exists or cannot be written; `Damaged`. A partial file may remain.
    pub async fn backup(&self, path: &Path) -> Result<(), IdentitiesError> {
        let path: PathBuf = path.to_owned();
        self.read(move |from| {
            if path.exists() {
                let reason = format!("{} already exists; a backup never overwrites a file", path.display());
                return Err(IdentitiesError::Unavailable(reason));
            }
            let to = file::create(&path, CACHE_BYTES)?.begin_write().map_err(storage)?;
            file::copy_table(META, from, &to)?;
            file::copy_table(KEY, from, &to)?;
            file::copy_table(IDENTITIES, from, &to)?;
            to.commit().map_err(storage)
        })
        .await
    }

    /// Checks the format and reads the key; creates tables and key in an empty file.
    fn prepare(database: Database) -> Result<Self, IdentitiesError> {
        let key = match file::format_of(&database, "directory of identities")? {
            Some(found) if found > FORMAT => {
                return Err(IdentitiesError::Newer { found, supported: FORMAT });
            }
            Some(_) => stored_key(&database)?,
            None => {
                let key = IdentityKey::random()
                    .map_err(|error| IdentitiesError::Unavailable(format!("no random key: {error}")))?;
                let transaction = database.begin_write().map_err(storage)?;
                transaction
                    .open_table(META)
                    .map_err(storage)?
                    .insert(file::FORMAT, FORMAT)
                    .map_err(storage)?;
                transaction.open_table(KEY).map_err(storage)?.insert((), key.expose()).map_err(storage)?;
                transaction.open_table(IDENTITIES).map_err(storage)?;
                transaction.commit().map_err(storage)?;
                key
            }
        };
        Ok(Self(Arc::new(Store {
            database: Arc::new(database),
            key,
            waiting: Mutex::default(),
            turn: Turn::default(),
        })))
    }

    async fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&ReadTransaction) -> Result<T, IdentitiesError> + Send + 'static,
    ) -> Result<T, IdentitiesError> {
        let database = Arc::clone(&self.0.database);
        blocking(move || step(&database.begin_read().map_err(storage)?)).await
    }

    /// Writes all waiting entries in one commit and answers them.
    async fn write_waiting(&self) {
        let entries = std::mem::take(&mut *self.waiting());
        if entries.is_empty() {
            return;
        }
        let database = Arc::clone(&self.0.database);
        let work = move || {
            let written = write(&database, &entries);
            for (place, entry) in entries.into_iter().enumerate() {
                let answer = written.as_ref().map(|answers| answers[place]).map_err(Clone::clone);
                // The caller may have gone; the identity is stored all the same.
                let _ = entry.answer.send(answer);
            }
            Ok::<(), IdentitiesError>(())
        };
        // A failure of the task itself drops the entries, which their callers notice.
        let _ = blocking(work).await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        // Every change of the list is a single step, so a panic cannot leave it half-done.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Identities for EmbeddedIdentities {
    fn key(&self) -> &IdentityKey {
        &self.0.key
    }

    async fn remember(&self, user: UserId, identity: &Identity) -> Result<Remembered, IdentitiesError> {
        if let Some(known) = self.recall(user).await? {
            return Ok(compare(&known, identity));
        }
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Entry { user, identity: identity.clone(), answer });
        // Whoever has the turn writes the entries of all who wait.
        let turn = self.0.turn.lock().await;
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        self.write_waiting().await;
        drop(turn);
        answered.await.unwrap_or_else(|_| {
            Err(IdentitiesError::Unavailable("the write was interrupted; repeat it".to_owned()))
        })
    }

    async fn recall(&self, user: UserId) -> Result<Option<Identity>, IdentitiesError> {
        self.read(move |reading| {
            let identities = reading.open_table(IDENTITIES).map_err(storage)?;
            let Some(row) = identities.get(user.value()).map_err(storage)? else { return Ok(None) };
            parse(user, row.value()).map(Some)
        })
        .await
    }

    async fn forget(&self, user: UserId) -> Result<(), IdentitiesError> {
        let database = Arc::clone(&self.0.database);
        blocking(move || {
            let transaction = database.begin_write().map_err(storage)?;
            transaction.open_table(IDENTITIES).map_err(storage)?.remove(user.value()).map_err(storage)?;
            transaction.commit().map_err(storage)
        })
        .await
    }
}

/// Stores what is new, in one commit, and tells each entry what was found.
fn write(database: &Database, entries: &[Entry]) -> Result<Vec<Remembered>, IdentitiesError> {
    let transaction: WriteTransaction = database.begin_write().map_err(storage)?;
    let mut identities = transaction.open_table(IDENTITIES).map_err(storage)?;
    let mut answers = Vec::with_capacity(entries.len());
    for Entry { user, identity, .. } in entries {
        let known = identities.get(user.value()).map_err(storage)?;
        let known = known.map(|row| parse(*user, row.value())).transpose()?;
        if known.is_none() {
            identities.insert(user.value(), identity.as_str()).map_err(storage)?;
        }
        answers.push(known.map_or(Remembered::Same, |known| compare(&known, identity)));
    }
    drop(identities);
    transaction.commit().map_err(storage)?;
    Ok(answers)
}

fn compare(known: &Identity, identity: &Identity) -> Remembered {
    if known == identity { Remembered::Same } else { Remembered::Taken }
}

fn parse(user: UserId, text: &str) -> Result<Identity, IdentitiesError> {
    Identity::new(text).map_err(|error| IdentitiesError::Damaged(format!("user {user}: {error}")))
}

fn stored_key(database: &Database) -> Result<IdentityKey, IdentitiesError> {
    let reading = database.begin_read().map_err(storage)?;
    let row = reading.open_table(KEY).map_err(storage)?.get(()).map_err(storage)?;
    let row = row.ok_or_else(|| IdentitiesError::Damaged("it has no key".to_owned()))?;
    Ok(IdentityKey::new(row.value()))
}

fn storage(error: impl Into<redb::Error>) -> IdentitiesError {
    file::storage(error).into()
}

impl From<StoreError> for IdentitiesError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason, .. } => Self::Unavailable(reason),
            StoreError::Damaged(reason) => Self::Damaged(reason),
            StoreError::Unknown(source) => Self::Unavailable(source.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::Issuer;

    fn identity(text: &str) -> Identity {
        Identity::new(text).unwrap()
    }

    #[tokio::test]
    async fn identities_and_their_key_outlive_the_process_and_a_restore() {
        let directory = tempfile::tempdir().unwrap();
        let ann = identity("auth0|ann");
        let identities = EmbeddedIdentities::open(directory.path()).unwrap();
        let user = Issuer::new(identities.key(), "id").user(&ann);
        assert_eq!(identities.recall(user).await.unwrap(), None);
        assert_eq!(identities.remember(user, &ann).await.unwrap(), Remembered::Same);
        assert_eq!(identities.remember(user, &ann).await.unwrap(), Remembered::Same);
        let copy = tempfile::tempdir().unwrap();
        identities.backup(&copy.path().join(EmbeddedIdentities::FILE)).await.unwrap();
        drop(identities);
        for directory in [directory.path(), copy.path()] {
            let identities = EmbeddedIdentities::open(directory).unwrap();
            assert_eq!(Issuer::new(identities.key(), "id").user(&ann), user);
            assert_eq!(identities.recall(user).await.unwrap(), Some(ann.clone()));
            identities.forget(user).await.unwrap();
            assert_eq!(identities.recall(user).await.unwrap(), None);
        }
        let other = EmbeddedIdentities::in_memory().unwrap();
        assert_ne!(Issuer::new(other.key(), "id").user(&ann), user, "each deployment has its key");
    }

    #[tokio::test]
    async fn a_number_belongs_to_one_identity() {
        let identities = EmbeddedIdentities::in_memory().unwrap();
        let user = UserId::new(u64::MAX).unwrap();
        assert_eq!(identities.remember(user, &identity("ann")).await.unwrap(), Remembered::Same);
        assert_eq!(identities.remember(user, &identity("bob")).await.unwrap(), Remembered::Taken);
        assert_eq!(identities.recall(user).await.unwrap(), Some(identity("ann")));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_crowd_shares_commits_and_each_caller_gets_their_own_answer() {
        let directory = tempfile::tempdir().unwrap();
        let identities = EmbeddedIdentities::open(directory.path()).unwrap();
        let mut crowd = JoinSet::new();
        for caller in 0..400_u64 {
            let identities = identities.clone();
            // Two callers contend for each number.
            let (user, text) = (UserId::new(u64::MAX - caller / 2).unwrap(), format!("caller {caller}"));
            crowd.spawn(async move { (user, identities.remember(user, &identity(&text)).await.unwrap()) });
        }
        let answers = crowd.join_all().await;
        let (same, taken): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, answer)| *answer == Remembered::Same);
        assert_eq!((same.len(), taken.len()), (200, 200));
    }

    #[test]
    fn a_newer_or_foreign_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        drop(EmbeddedIdentities::open(directory.path()).unwrap());
        let path = directory.path().join(EmbeddedIdentities::FILE);
        let change = |format: Option<u64>| {
            let database = file::create(&path, CACHE_BYTES).unwrap();
            let transaction = database.begin_write().unwrap();
            match format {
                Some(format) => {
                    drop(transaction.open_table(META).unwrap().insert(file::FORMAT, format).unwrap())
                }
                None => drop(transaction.open_table(KEY).unwrap().remove(()).unwrap()),
            }
            transaction.commit().unwrap();
        };
        change(None);
        assert!(matches!(EmbeddedIdentities::open(directory.path()), Err(IdentitiesError::Damaged(_))));
        change(Some(FORMAT + 1));
        assert!(matches!(EmbeddedIdentities::open(directory.path()), Err(IdentitiesError::Newer { .. })));
    }
}
