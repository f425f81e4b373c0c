//! The thread that makes durable what was decided, and then answers it.
//!
//! While it waits for the disk, the book's thread decides the next commit. The book is therefore ahead of the disk; nobody
//! sees that, because answers, those of reads too, wait for the commit of everything that was decided before them.

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

/// What thread and callers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why nothing is decided any more.
    pub(super) stopped: OnceLock<Arc<str>>,
    /// Held by whoever reads or writes snapshots, so that none is deleted under a reader.
    pub(super) snapshots: Mutex<()>,
    /// What was committed since the start.
    pub(super) commits: CommitMetrics,
    /// Tells a snapshot in the background to give up.
    pub(super) closing: AtomicBool,
}

impl Shared {
    /// Notes why nothing is decided any more, unless that is known; answers the first reason.
    pub(super) fn stop(&self, reason: Arc<str>) -> Arc<str> {
        tracing::error!(%reason, "the engine has stopped; nothing is sold until the process is started again");
        Arc::clone(self.stopped.get_or_init(|| reason))
    }

    /// Why nothing is decided any more.
    pub(super) fn reason(&self) -> Arc<str> {
        self.stopped.get().cloned().unwrap_or_else(|| "its thread has ended".into())
    }

    /// Runs what reads or writes snapshots, alone.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        // Snapshots are written aside and renamed, so a panic leaves nothing half-way.
        let _held = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// What was decided since the last commit.
pub(super) struct Commit {
    /// The records of what changed; none if everything was a reading.
    pub(super) records: Vec<u8>,
    pub(super) decided: Vec<Box<dyn Call>>,
}

/// The thread as the book's thread holds it.
pub(super) struct Committer {
    commits: mpsc::Sender<Commit>,
    /// A room for records whenever the thread is ready for a commit.
    ready: mpsc::Receiver<Vec<u8>>,
    /// What it said last, until that is used.
    room: Option<Vec<u8>>,
    thread: JoinHandle<Option<Disk>>,
}

impl Committer {
    pub(super) fn start(disk: Disk, shared: Arc<Shared>) -> Result<Self, EmbeddedError> {
        let (commits, received) = mpsc::channel();
        let (tell_ready, ready) = mpsc::channel();
        let directory = disk.directory.clone().unwrap_or_default();
        let thread = thread::Builder::new()
            .name("flashsale-commit".into())
            .spawn(move || work(disk, &shared, &received, &tell_ready))
            .map_err(|error| EmbeddedError::unusable(directory, "served by a thread", error))?;
        Ok(Self { commits, ready, room: None, thread })
    }

    /// Whether the thread waits for a commit, or has ended.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.room.is_none() {
            match self.ready.try_recv() {
                Ok(room) => self.room = Some(room),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
        }
        true
    }

    /// Waits until the thread is ready for a commit; answers a room for the records of the next. `None` if it has ended.
    pub(super) fn ready(&mut self) -> Option<Vec<u8>> {
        self.room.take().or_else(|| self.ready.recv().ok())
    }

    /// Gives it a commit; back if it has ended.
    pub(super) fn commit(&self, commit: Commit) -> Result<(), Commit> {
        self.commits.send(commit).map_err(|mpsc::SendError(commit)| commit)
    }

    /// Waits for the last commit. The disk, unless a commit failed.
    pub(super) fn join(self) -> Option<Disk> {
        drop(self.commits);
        // The thread catches its panics and says so.
        self.thread.join().ok().flatten()
    }
}

/// The thread: commit after commit, until there is nobody to give one, or one fails.
fn work(
    mut disk: Disk,
    shared: &Arc<Shared>,
    commits: &mpsc::Receiver<Commit>,
    ready: &mpsc::Sender<Vec<u8>>,
) -> Option<Disk> {
    // The book's thread does not listen any more when it ends.
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
        // The next commit is on its way while this one is answered.
        let _ = ready.send(records);
        decided.into_iter().for_each(Call::answer);
        disk.look_after_snapshots(shared);
    }
    Some(disk)
}

/// Where commits are written.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) journal: Journal,
    pub(super) directory: Option<PathBuf>,
    pub(super) role: LedgerRole,
    /// The last row.
    pub(super) row: u64,
    /// The row of the newest snapshot: rows up to it may be deleted.
    pub(super) snapshot: u64,
    /// The last row that was deleted.
    pub(super) trimmed: u64,
    /// Bytes since the last snapshot was begun.
    pub(super) bytes: u64,
    pub(super) snapshot_after: u64,
    pub(super) running: Option<JoinHandle<Result<Option<u64>, EmbeddedError>>>,
}

impl Disk {
    pub(super) fn new(
        journal: Journal,
        directory: Option<PathBuf>,
        role: LedgerRole,
        loaded: &Loaded,
        snapshot_after: u64,
    ) -> Self {
        Self {
            journal,
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

    /// Makes records durable.
    fn write(&mut self, records: &[u8]) -> Result<(), redb::Error> {
        if records.is_empty() || (records.len() < 4_096 && mutant!("answer-before-commit")) {
            return Ok(());
        }
        self.journal.append(self.row + 1, records, &mut self.trimmed, self.snapshot)?;
        self.row += 1;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Begins a snapshot in the background if the journal has become long, and notes one that was finished.
    ///
    /// The thread builds a book of its own from the last snapshot and the rows after it. Writing an image of the book
    /// that sells would be simpler, but the sale would stand still for as long: seconds, for millions of orders.
    fn look_after_snapshots(&mut self, shared: &Arc<Shared>) {
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
        let (journal, role, shared) = (self.journal.clone(), self.role, Arc::clone(shared));
        let work = move || {
            shared.alone(|| {
                let go_on = || !shared.closing.load(Ordering::Relaxed);
                let Some(loaded) = journal.load(Some(&directory), role, &go_on)? else { return Ok(None) };
                snapshot::write(&directory, loaded.row, &loaded.machine)?;
                Ok(Some(loaded.row))
            })
        };
        match thread::Builder::new().name("flashsale-snapshot".into()).spawn(work) {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::error!(%error, "no thread for a snapshot; the journal grows"),
        }
    }

    /// Waits for a snapshot in the background.
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

    /// Writes the book as a snapshot and deletes all rows. Nothing may be decided meanwhile.
    pub(super) fn write_snapshot(&mut self, machine: &StateMachine) -> Result<(), EmbeddedError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if self.row > self.snapshot {
            snapshot::write(directory, self.row, machine)?;
            self.snapshot = self.row;
        }
        if self.trimmed < self.row { self.journal.clear(self.row) } else { Ok(()) }
    }
}
