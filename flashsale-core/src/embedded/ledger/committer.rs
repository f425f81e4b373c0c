//! The committer thread: writes what the writer decided to disk, then sends the answers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    archive_file::ArchiveFile,
    call::Call,
    commit_metrics::CommitMetrics,
    error::EmbeddedError,
    journal::{Journal, Loaded},
    snapshot,
};
use crate::{
    ledger::{LedgerError, LedgerRole, state_machine::StateMachine},
    panic_message::panic_message,
};

/// State shared by the threads and the engine's callers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why the engine has stopped; unset while it runs.
    pub(super) stopped: OnceLock<Arc<str>>,
    /// Held while snapshots are read or written, so that none is deleted while it is being read.
    pub(super) snapshots: Mutex<()>,
    /// Metrics of the commits.
    pub(super) commits: CommitMetrics,
    /// Tells a background snapshot to give up.
    pub(super) closing: AtomicBool,
}

impl Shared {
    /// Records why the engine stops, unless it has already; returns the first reason.
    pub(super) fn stop(&self, reason: Arc<str>) -> Arc<str> {
        tracing::error!(%reason, "the engine has stopped and sells nothing until the process is restarted");
        Arc::clone(self.stopped.get_or_init(|| reason))
    }

    /// Why the engine has stopped.
    pub(super) fn reason(&self) -> Arc<str> {
        self.stopped.get().cloned().unwrap_or_else(|| "its thread has ended".into())
    }

    /// Runs `work`, which reads or writes snapshots, with exclusive access to them.
    pub(super) fn lock_snapshots<T>(&self, work: impl FnOnce() -> T) -> T {
        // Snapshots are renamed when complete, so a panic leaves nothing half-done.
        let _held = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// What was decided since the last commit.
pub(super) struct Commit {
    /// The journal records of the changes; empty if there were only reads.
    pub(super) records: Vec<u8>,
    pub(super) decided: Vec<Box<dyn Call>>,
}

/// The writer's handle of the committer thread.
pub(super) struct Committer {
    commits: mpsc::Sender<Commit>,
    /// Whenever the thread is ready for a commit, it sends an empty buffer for the next records.
    ready: mpsc::Receiver<Vec<u8>>,
    /// A buffer that was received and not used yet.
    buffer: Option<Vec<u8>>,
    thread: JoinHandle<Option<Disk>>,
}

impl Committer {
    pub(super) fn start(disk: Disk, shared: Arc<Shared>) -> Result<Self, EmbeddedError> {
        let (commits, received) = mpsc::channel();
        let (ready_sender, ready) = mpsc::channel();
        let directory = disk.directory.clone().unwrap_or_default();
        let thread = thread::Builder::new()
            .name("flashsale-commit".into())
            .spawn(move || work(disk, &shared, &received, &ready_sender))
            .map_err(|error| EmbeddedError::unusable(directory, "served by a new thread", error))?;
        Ok(Self { commits, ready, buffer: None, thread })
    }

    /// Whether the thread is ready for a commit, or has ended.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.buffer.is_none() {
            match self.ready.try_recv() {
                Ok(buffer) => self.buffer = Some(buffer),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
        }
        true
    }

    /// Waits until the thread is ready; returns the buffer for the next records, `None` if it has
    /// ended.
    pub(super) fn ready(&mut self) -> Option<Vec<u8>> {
        self.buffer.take().or_else(|| self.ready.recv().ok())
    }

    /// Sends a commit to the thread; returns it if the thread has ended.
    pub(super) fn commit(&self, commit: Commit) -> Result<(), Commit> {
        self.commits.send(commit).map_err(|mpsc::SendError(commit)| commit)
    }

    /// Waits for the last commit. Returns the disk unless a commit failed.
    pub(super) fn join(self) -> Option<Disk> {
        drop(self.commits);
        // The thread catches and reports its own panics.
        self.thread.join().ok().flatten()
    }
}

/// Runs the thread: writes commits until the writer is gone or one fails.
fn work(
    mut disk: Disk,
    shared: &Arc<Shared>,
    commits: &mpsc::Receiver<Commit>,
    ready: &mpsc::Sender<Vec<u8>>,
) -> Option<Disk> {
    // Sending only fails when the writer has ended.
    let _ = ready.send(Vec::new());
    while let Ok(Commit { mut records, decided }) = commits.recv() {
        let begun = Instant::now();
        let written = catch_unwind(AssertUnwindSafe(|| disk.write(&records)));
        if !records.is_empty() {
            shared.commits.count(begun.elapsed(), records.len());
        }
        let failure = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the journal cannot be written: {error}")),
            Err(panic) => Some(format!("a bug: {}", panic_message(&*panic))),
        };
        if let Some(reason) = failure {
            let reason = shared.stop(reason.into());
            decided.into_iter().for_each(|call| call.fail(LedgerError::Unknown(Arc::clone(&reason))));
            return None;
        }
        records.clear();
        // The writer can already send the next commit while this one is answered.
        let _ = ready.send(records);
        decided.into_iter().for_each(Call::answer);
        disk.maintain_snapshots(shared);
    }
    Some(disk)
}

/// The journal and its snapshots, as the committer writes them.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) journal: Journal,
    pub(super) archive: ArchiveFile,
    pub(super) directory: Option<PathBuf>,
    pub(super) role: LedgerRole,
    /// The last row.
    pub(super) row: u64,
    /// The last row of the newest snapshot. Rows up to it may be deleted.
    pub(super) snapshot: u64,
    /// The last row that was deleted.
    pub(super) trimmed: u64,
    /// Journal bytes since the last snapshot was started.
    pub(super) bytes: u64,
    pub(super) snapshot_after: u64,
    pub(super) running: Option<JoinHandle<Result<Option<u64>, EmbeddedError>>>,
}

impl Disk {
    pub(super) fn new(
        journal: Journal,
        archive: ArchiveFile,
        directory: Option<PathBuf>,
        role: LedgerRole,
        loaded: &Loaded,
        snapshot_after: u64,
    ) -> Self {
        Self {
            journal,
            archive,
            directory,
            role,
            row: loaded.row,
            snapshot: loaded.snapshot,
            trimmed: loaded.trimmed,
            bytes: loaded.replayed_bytes,
            snapshot_after,
            running: None,
        }
    }

    /// Makes records durable as one row.
    fn write(&mut self, records: &[u8]) -> Result<(), redb::Error> {
        if records.is_empty() || (records.len() < 4_096 && mutant!("answer-before-commit")) {
            return Ok(());
        }
        self.journal.append(self.row + 1, records, &mut self.trimmed, self.snapshot)?;
        self.row += 1;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Starts a background snapshot if the journal has grown enough, and collects a finished one.
    ///
    /// The snapshot thread builds its own state machine from the previous snapshot and the later
    /// rows. Writing an image of the live one would be simpler, but would stop sales for seconds at
    /// millions of orders.
    fn maintain_snapshots(&mut self, shared: &Arc<Shared>) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join();
        }
        let Some(directory) = self.directory.clone().filter(|_| self.bytes >= self.snapshot_after) else {
            return;
        };
        if self.running.is_some() {
            return;
        }
        self.bytes = 0;
        let (journal, archive) = (self.journal.clone(), self.archive.clone());
        let (role, shared) = (self.role, Arc::clone(shared));
        let work = move || {
            shared.lock_snapshots(|| {
                let proceed = || !shared.closing.load(Ordering::Relaxed);
                let Some(loaded) = journal.load(Some(&directory), role, &archive, &proceed)? else {
                    return Ok(None);
                };
                snapshot::write(&directory, loaded.row, &loaded.machine)?;
                Ok(Some(loaded.row))
            })
        };
        match thread::Builder::new().name("flashsale-snapshot".into()).spawn(work) {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::error!(%error, "no thread for a snapshot; the journal grows"),
        }
    }

    /// Waits for the background snapshot and collects its result.
    pub(super) fn join(&mut self) {
        match self.running.take().map(JoinHandle::join) {
            Some(Ok(Ok(Some(row)))) => {
                tracing::info!(row, "a snapshot was written");
                self.snapshot = row;
            }
            Some(Ok(Ok(None))) | None => {}
            Some(Ok(Err(error))) => tracing::error!(%error, "a snapshot failed; the journal grows"),
            Some(Err(panic)) => {
                tracing::error!(reason = panic_message(&*panic), "a snapshot failed; the journal grows");
            }
        }
    }

    /// Writes a snapshot and deletes all rows. No decision may be made meanwhile.
    pub(super) fn write_snapshot(&mut self, machine: &StateMachine) -> Result<(), EmbeddedError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if self.row > self.snapshot {
            snapshot::write(directory, self.row, machine)?;
            self.snapshot = self.row;
        }
        if self.trimmed < self.row { self.journal.clear(self.row) } else { Ok(()) }
    }
}
