//! A durable job queue in one redb file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use crate::{
    domain::{Clock, Timestamp},
    embedded::file::{self, META, StoreError, blocking},
    queue::{
        Claimed, DeadLetter, Depth, JobNumber, MAX_BATCH, NewJob, Put, Queue, QueueError, Settlement, Topic,
        job::{JobState, StoredJob},
    },
};

/// The size of redb's page cache. Jobs rarely wait longer than minutes, so few pages are in use.
const CACHE_BYTES: usize = 16 << 20;

/// Jobs by number, as JSON, so that a field can be added without rewriting the file.
const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
/// Job numbers by topic and id.
const IDS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("ids");
/// Ready and claimed jobs: topic, time at which the job is ready (in ms since the epoch), number.
const READY: TableDefinition<'_, (&str, u64, u64), ()> = TableDefinition::new("ready");
/// The numbers of dead letters.
const DEAD: TableDefinition<'_, u64, ()> = TableDefinition::new("dead");
/// Per topic, how many jobs are ready or claimed, and how many are dead letters.
const DEPTHS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("depths");

/// The format that this version writes. Higher ones are refused.
const FORMAT: u64 = 1;
/// The key of the last assigned job number in [`META`].
const LAST: &str = "last";

/// A [`Queue`] in one file, `queue.redb`, for jobs that are recorded nowhere else.
///
/// Every change is on disk before a call returns. One process at a time can open the file. Calls
/// wait for the disk on tokio's threads for blocking work, so any tokio runtime will do.
#[derive(Clone, Debug)]
pub struct EmbeddedQueue {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedQueue {
    /// The name of the file in the data directory.
    pub const FILE: &'static str = "queue.redb";

    /// Opens the queue of a data directory, creating directory and file if they are missing. Blocks
    /// on the disk; call it before serving starts.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be used or another process has it open; `Newer`; `Damaged`.
    /// Existing files are left as they are.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, QueueError> {
        file::open(directory, Self::FILE, CACHE_BYTES, |database| {
            prepare(&database)?;
            Ok(Self { database: Arc::new(database), clock })
        })
    }

    /// Writes a consistent copy to `path` while the queue is in use. To restore, replace
    /// `queue.redb` while no process has it open; jobs done after the backup run again.
    ///
    /// # Errors
    /// `Unavailable` if `path` exists or cannot be written; `Damaged`. A partial file may remain.
    pub async fn backup(&self, path: &Path) -> Result<(), QueueError> {
        let path: PathBuf = path.to_owned();
        self.read(move |from| {
            if path.exists() {
                let reason = format!("{} already exists; a backup never overwrites a file", path.display());
                return Err(QueueError::Unavailable { reason, retry: false, source: None });
            }
            let to = file::create(&path, CACHE_BYTES)?.begin_write().map_err(storage)?;
            file::copy_table(META, from, &to)?;
            file::copy_table(JOBS, from, &to)?;
            file::copy_table(IDS, from, &to)?;
            file::copy_table(READY, from, &to)?;
            file::copy_table(DEAD, from, &to)?;
            file::copy_table(DEPTHS, from, &to)?;
            to.commit().map_err(storage)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&ReadTransaction) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let database = Arc::clone(&self.database);
        blocking(move || step(&database.begin_read().map_err(storage)?)).await
    }

    /// Runs a step and commits its changes, if any.
    async fn write<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Step<'_>) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (database, clock) = (Arc::clone(&self.database), Arc::clone(&self.clock));
        blocking(move || {
            let transaction = database.begin_write().map_err(storage)?;
            let mut running = Step::begin(&transaction, clock.now())?;
            let answer = step(&mut running)?;
            let changed = running.changed;
            drop(running);
            if changed {
                transaction.commit().map_err(|error| QueueError::Unknown(Box::new(error)))?;
            } else {
                transaction.abort().map_err(storage)?;
            }
            Ok(answer)
        })
        .await
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<Put>, QueueError> {
        QueueError::bound(jobs.len())?;
        self.write(move |step| jobs.into_iter().map(|job| step.put(job)).collect()).await
    }

    async fn claim(&self, topic: &Topic, limit: usize, lease: Duration) -> Result<Claimed, QueueError> {
        QueueError::bound(limit)?;
        let topic = topic.clone();
        self.write(move |step| step.claim(&topic, limit, lease)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, QueueError> {
        QueueError::bound(settlements.len())?;
        self.write(move |step| settlements.into_iter().map(|settlement| step.settle(settlement)).collect())
            .await
    }

    async fn dead_letters(
        &self,
        after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let first = after.map_or(0, |after| after.0.saturating_add(1));
        self.read(move |reading| {
            let jobs = reading.open_table(JOBS).map_err(storage)?;
            let dead = reading.open_table(DEAD).map_err(storage)?;
            let mut letters = Vec::new();
            for row in dead.range(first..).map_err(storage)?.take(limit.min(MAX_BATCH)) {
                let number = JobNumber(row.map_err(storage)?.0.value());
                letters.extend(job(&jobs, number)?.dead_letter(number));
            }
            Ok(letters)
        })
        .await
    }

    async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, QueueError> {
        self.read(move |reading| {
            let jobs = reading.open_table(JOBS).map_err(storage)?;
            Ok(find(&jobs, number)?.and_then(|job| job.dead_letter(number)))
        })
        .await
    }

    async fn replay(&self, number: JobNumber) -> Result<bool, QueueError> {
        self.write(move |step| step.replay(number)).await
    }

    async fn discard(&self, number: JobNumber) -> Result<bool, QueueError> {
        self.write(move |step| step.discard(number)).await
    }

    async fn depths(&self) -> Result<Vec<Depth>, QueueError> {
        self.read(|reading| {
            let ready = reading.open_table(READY).map_err(storage)?;
            let mut depths = Vec::new();
            for row in reading.open_table(DEPTHS).map_err(storage)?.iter().map_err(storage)? {
                let (topic, depth) = row.map_err(storage)?;
                let (waiting, dead) = depth.value();
                let first_ready = first_ready(&ready, topic.value())?;
                depths.push(Depth { topic: read_topic(topic.value())?, waiting, dead, first_ready });
            }
            Ok(depths)
        })
        .await
    }
}

/// A write transaction with its open tables.
struct Step<'t> {
    now: Timestamp,
    meta: Table<'t, &'static str, u64>,
    jobs: Table<'t, u64, &'static [u8]>,
    ids: Table<'t, (&'static str, &'static str), u64>,
    ready: Table<'t, (&'static str, u64, u64), ()>,
    dead: Table<'t, u64, ()>,
    depths: Table<'t, &'static str, (u64, u64)>,
    changed: bool,
}

impl<'t> Step<'t> {
    fn begin(transaction: &'t WriteTransaction, now: Timestamp) -> Result<Self, QueueError> {
        Ok(Self {
            now,
            meta: transaction.open_table(META).map_err(storage)?,
            jobs: transaction.open_table(JOBS).map_err(storage)?,
            ids: transaction.open_table(IDS).map_err(storage)?,
            ready: transaction.open_table(READY).map_err(storage)?,
            dead: transaction.open_table(DEAD).map_err(storage)?,
            depths: transaction.open_table(DEPTHS).map_err(storage)?,
            changed: false,
        })
    }

    fn put(&mut self, job: NewJob) -> Result<Put, QueueError> {
        let key = (job.topic.as_str(), job.id.as_str());
        if let Some(number) = self.ids.get(key).map_err(storage)?
            && !mutant!("queue-put-twice")
        {
            return Ok(Put::Known(JobNumber(number.value())));
        }
        let last = self.meta.get(LAST).map_err(storage)?.map_or(0, |last| last.value()) + 1;
        self.meta.insert(LAST, last).map_err(storage)?;
        self.ids.insert(key, last).map_err(storage)?;
        let number = JobNumber(last);
        self.save(number, &StoredJob::new(job, self.now))?;
        Ok(Put::New(number))
    }

    fn claim(&mut self, topic: &Topic, limit: usize, lease: Duration) -> Result<Claimed, QueueError> {
        let range = (topic.as_str(), 0, 0)..=(topic.as_str(), self.now.as_millis(), u64::MAX);
        let ready: Result<Vec<_>, QueueError> = (self.ready.range(range).map_err(storage)?)
            .take(limit)
            .map(|row| Ok(JobNumber(row.map_err(storage)?.0.value().2)))
            .collect();
        let mut jobs = Vec::new();
        for number in ready? {
            let mut stored = self.unindex(number)?;
            jobs.push(stored.claim(number, self.now.after(lease)));
            if !mutant!("queue-claimed-and-lost") {
                self.save(number, &stored)?;
            }
        }
        Ok(Claimed { at: self.now, jobs, next: first_ready(&self.ready, topic.as_str())? })
    }

    fn settle(&mut self, Settlement { claim, verdict }: Settlement) -> Result<bool, QueueError> {
        let valid = |stored: StoredJob| stored.is_claimed_by(claim) || mutant!("queue-claims-not-fenced");
        if !find(&self.jobs, claim.number)?.is_some_and(valid) {
            return Ok(false);
        }
        let mut stored = self.unindex(claim.number)?;
        if stored.settle(verdict, self.now) {
            self.save(claim.number, &stored)?;
        } else {
            self.delete(claim.number, &stored)?;
        }
        Ok(true)
    }

    fn replay(&mut self, number: JobNumber) -> Result<bool, QueueError> {
        if self.dead.get(number.0).map_err(storage)?.is_none() {
            return Ok(false);
        }
        let mut stored = self.unindex(number)?;
        stored.replay(self.now);
        self.save(number, &stored)?;
        Ok(true)
    }

    fn discard(&mut self, number: JobNumber) -> Result<bool, QueueError> {
        if self.dead.get(number.0).map_err(storage)?.is_none() {
            return Ok(false);
        }
        let stored = self.unindex(number)?;
        self.delete(number, &stored)?;
        Ok(true)
    }

    /// Loads a job and removes it from the index of its state.
    fn unindex(&mut self, number: JobNumber) -> Result<StoredJob, QueueError> {
        let stored = job(&self.jobs, number)?;
        match stored.place {
            JobState::Ready(ready_at) | JobState::Held(ready_at) => {
                let row = (stored.topic.as_str(), ready_at.as_millis(), number.0);
                self.ready.remove(row).map_err(storage)?;
                self.count(&stored.topic, |(waiting, dead)| (waiting.saturating_sub(1), dead))?;
            }
            JobState::Dead(_) => {
                self.dead.remove(number.0).map_err(storage)?;
                self.count(&stored.topic, |(waiting, dead)| (waiting, dead.saturating_sub(1)))?;
            }
        }
        Ok(stored)
    }

    /// Writes a job and adds it to the index of its state.
    fn save(&mut self, number: JobNumber, stored: &StoredJob) -> Result<(), QueueError> {
        match stored.place {
            JobState::Ready(ready_at) | JobState::Held(ready_at) => {
                let row = (stored.topic.as_str(), ready_at.as_millis(), number.0);
                self.ready.insert(row, ()).map_err(storage)?;
                self.count(&stored.topic, |(waiting, dead)| (waiting + 1, dead))?;
            }
            JobState::Dead(_) => {
                self.dead.insert(number.0, ()).map_err(storage)?;
                self.count(&stored.topic, |(waiting, dead)| (waiting, dead + 1))?;
            }
        }
        let bytes = serde_json::to_vec(stored).map_err(|error| QueueError::Damaged(error.to_string()))?;
        self.jobs.insert(number.0, bytes.as_slice()).map_err(storage)?;
        Ok(())
    }

    /// Deletes a job that is in no index any more.
    fn delete(&mut self, number: JobNumber, stored: &StoredJob) -> Result<(), QueueError> {
        self.ids.remove((stored.topic.as_str(), stored.id.as_str())).map_err(storage)?;
        self.jobs.remove(number.0).map_err(storage)?;
        Ok(())
    }

    fn count(&mut self, topic: &Topic, change: impl Fn((u64, u64)) -> (u64, u64)) -> Result<(), QueueError> {
        let depth = self.depths.get(topic.as_str()).map_err(storage)?.map_or((0, 0), |depth| depth.value());
        self.depths.insert(topic.as_str(), change(depth)).map_err(storage)?;
        self.changed = true;
        Ok(())
    }
}

/// Checks the format, or creates the tables of an empty file.
fn prepare(database: &Database) -> Result<(), QueueError> {
    match file::format_of(database, "queue")? {
        Some(found) if found > FORMAT => Err(QueueError::Newer { found, supported: FORMAT }),
        Some(_) => Ok(()),
        None => {
            let transaction = database.begin_write().map_err(storage)?;
            let mut step = Step::begin(&transaction, Timestamp::EPOCH)?;
            step.meta.insert(file::FORMAT, FORMAT).map_err(storage)?;
            drop(step);
            transaction.commit().map_err(storage)
        }
    }
}

fn find(
    jobs: &impl ReadableTable<u64, &'static [u8]>,
    number: JobNumber,
) -> Result<Option<StoredJob>, QueueError> {
    let Some(bytes) = jobs.get(number.0).map_err(storage)? else { return Ok(None) };
    let stored = serde_json::from_slice(bytes.value());
    stored.map(Some).map_err(|error| QueueError::Damaged(format!("job {number}: {error}")))
}

/// Loads a job that an index refers to.
fn job(jobs: &impl ReadableTable<u64, &'static [u8]>, number: JobNumber) -> Result<StoredJob, QueueError> {
    find(jobs, number)?.ok_or_else(|| QueueError::Damaged(format!("job {number} is indexed but missing")))
}

fn first_ready(
    ready: &impl ReadableTable<(&'static str, u64, u64), ()>,
    topic: &str,
) -> Result<Option<Timestamp>, QueueError> {
    let mut rows = ready.range((topic, 0, 0)..=(topic, u64::MAX, u64::MAX)).map_err(storage)?;
    let first = rows.next().transpose().map_err(storage)?;
    Ok(first.map(|(row, _)| Timestamp::from_millis(row.value().1)))
}

fn read_topic(text: &str) -> Result<Topic, QueueError> {
    text.parse().map_err(|_| QueueError::Damaged(format!("{text:?} is not a valid topic")))
}

fn storage(error: impl Into<redb::Error>) -> QueueError {
    file::storage(error).into()
}

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason, retry, source } => Self::Unavailable { reason, retry, source },
            StoreError::Damaged(reason) => Self::Damaged(reason),
            StoreError::Unknown(source) => Self::Unknown(source),
        }
    }
}
