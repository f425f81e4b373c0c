//! The thread that owns the book.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    error::EmbeddedError,
    journal::{Journal, Loaded},
    snapshot,
};
use crate::{
    domain::{Clock, Timestamp},
    ledger::{BatchId, LedgerError, spec::Book},
};

/// A step that waits to be decided, and then for its commit.
pub(super) trait Call: Send {
    /// Takes the step and keeps the answer. An error means that the book is damaged.
    fn run(&mut self, book: &mut Book, now: Timestamp, batch: BatchId) -> Result<(), Arc<str>>;

    /// Gives the answer.
    fn answer(self: Box<Self>);

    /// Answers an error instead.
    fn fail(self: Box<Self>, error: LedgerError);
}

/// What the thread is told.
pub(super) enum Message {
    /// Takes a step.
    Call(Box<dyn Call>),
    /// Takes what waits, writes a snapshot, and ends.
    Close(CloseReply),
}

pub(super) type CloseReply = oneshot::Sender<Result<(), EmbeddedError>>;

/// A step as a closure with its answer.
pub(super) struct Step<F, T> {
    pub(super) step: Option<F>,
    pub(super) answer: Option<Result<T, LedgerError>>,
    pub(super) reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<F, T> Call for Step<F, T>
where
    F: FnOnce(&mut Book, Timestamp, BatchId) -> Result<T, LedgerError> + Send,
    T: Send,
{
    fn run(&mut self, book: &mut Book, now: Timestamp, batch: BatchId) -> Result<(), Arc<str>> {
        let answer = self.step.take().map(|step| step(book, now, batch));
        let damage = match &answer {
            Some(Err(LedgerError::Stopped(reason))) => Err(Arc::clone(reason)),
            _ => Ok(()),
        };
        self.answer = answer;
        damage
    }

    fn answer(self: Box<Self>) {
        // Whoever asked may have gone; the step was taken all the same.
        if let Some(answer) = self.answer {
            let _ = self.reply.send(answer);
        }
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        let _ = self.reply.send(Err(error));
    }
}

/// What thread and callers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why nothing is decided any more.
    pub(super) stopped: OnceLock<Arc<str>>,
    /// Held by whoever reads or writes snapshots, so that none is deleted under a reader.
    pub(super) snapshots: Mutex<()>,
    /// Tells a snapshot in the background to give up.
    closing: AtomicBool,
}

impl Shared {
    /// Runs what reads or writes snapshots, alone.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        // Snapshots are written aside and renamed, so a panic leaves nothing half-way.
        let _held = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// Where the thread writes what it decided.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) journal: Journal,
    pub(super) directory: Option<PathBuf>,
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

/// The thread's state.
pub(super) struct Writer {
    pub(super) book: Book,
    pub(super) disk: Option<Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) receiver: mpsc::Receiver<Message>,
    pub(super) shared: Arc<Shared>,
    pub(super) commit_bytes: usize,
    batch: u64,
    /// Taken from the channel, to be decided.
    waiting: VecDeque<Message>,
    /// Decided, to be answered after the commit.
    decided: Vec<Box<dyn Call>>,
}

/// Why the thread ends before it is told to.
enum Failure {
    /// Whether the steps of the present commit took effect is unknown.
    Unknown(Arc<str>),
    /// The steps of the present commit took no effect.
    Nothing(Arc<str>),
}

/// The most steps in one commit.
const MAX_STEPS: usize = 1_024;

impl Writer {
    pub(super) fn new(
        book: Book,
        disk: Option<Disk>,
        clock: Arc<dyn Clock>,
        receiver: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
        commit_bytes: usize,
    ) -> Self {
        let (batch, waiting, decided) = (fastrand::u64(..), VecDeque::new(), Vec::new());
        Self { book, disk, clock, receiver, shared, commit_bytes, batch, waiting, decided }
    }

    /// The thread: decides until it is told to close, everybody has gone, or something fails.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()));
        let failure = match ended {
            Ok(Ok(reply)) => return self.close(reply),
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Unknown(format!("a bug: {}", text_of(&*panic)).into()),
        };
        let (reason, error) = match failure {
            Failure::Unknown(reason) => (Arc::clone(&reason), LedgerError::Unknown(reason)),
            Failure::Nothing(reason) => (Arc::clone(&reason), LedgerError::Stopped(reason)),
        };
        tracing::error!(%reason, "the engine has stopped; nothing is sold until the process is started again");
        self.shared.stopped.get_or_init(|| Arc::clone(&reason));
        for call in self.decided.drain(..) {
            call.fail(error.clone());
        }
        self.turn_away(&reason);
    }

    /// Commit after commit. Ends with whom to tell that the engine is closed, if anybody wants to know.
    fn work(&mut self) -> Result<Option<CloseReply>, Failure> {
        let mut received = Vec::new();
        loop {
            if self.waiting.is_empty() {
                if self.receiver.blocking_recv_many(&mut received, MAX_STEPS) == 0 {
                    return Ok(None);
                }
                self.waiting.extend(received.drain(..));
            }
            let close = self.decide()?;
            self.commit()?;
            for call in self.decided.drain(..) {
                call.answer();
            }
            if close.is_some() {
                return Ok(close);
            }
        }
    }

    /// Decides what waits, until the commit is large enough.
    fn decide(&mut self) -> Result<Option<CloseReply>, Failure> {
        while let Some(message) = self.waiting.pop_front() {
            let mut call = match message {
                Message::Call(call) => call,
                Message::Close(reply) => return Ok(Some(reply)),
            };
            self.batch = self.batch.wrapping_add(1);
            let run = call.run(&mut self.book, self.clock.now(), BatchId(self.batch));
            self.decided.push(call);
            run.map_err(Failure::Nothing)?;
            if self.book.journalled().len() >= self.commit_bytes {
                break;
            }
        }
        Ok(None)
    }

    /// Makes what was decided durable.
    fn commit(&mut self) -> Result<(), Failure> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let bytes = self.book.journalled();
        if bytes.is_empty() || (bytes.len() < 4_096 && mutant!("answer-before-commit")) {
            return Ok(());
        }
        let row = disk.row + 1;
        disk.journal
            .append(row, bytes, &mut disk.trimmed, disk.snapshot)
            .map_err(|error| Failure::Unknown(format!("the journal cannot be written: {error}").into()))?;
        disk.row = row;
        disk.bytes += bytes.len() as u64;
        self.book.forget_journal();
        disk.look_after_snapshots(&self.book, &self.shared);
        Ok(())
    }

    /// Ends in order: a snapshot makes the next start short.
    fn close(mut self, reply: Option<CloseReply>) {
        let reason: Arc<str> = "it was closed".into();
        self.shared.stopped.get_or_init(|| Arc::clone(&reason));
        self.turn_away(&reason);
        self.shared.closing.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        if let Some(disk) = &mut self.disk {
            disk.join();
            if reply.is_some() {
                result = self.shared.alone(|| disk.write_snapshot(&self.book));
            }
        }
        // The file has to be free when the answer arrives, so that it can be opened again.
        drop(self.disk.take());
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }

    /// Answers whoever waits, and lets nobody else in.
    fn turn_away(&mut self, reason: &Arc<str>) {
        self.receiver.close();
        let mut waiting = std::mem::take(&mut self.waiting);
        loop {
            for message in waiting.drain(..) {
                match message {
                    Message::Call(call) => call.fail(LedgerError::Stopped(Arc::clone(reason))),
                    Message::Close(reply) => {
                        let _ = reply.send(Err(EmbeddedError::Stopped(Arc::clone(reason))));
                    }
                }
            }
            match self.receiver.blocking_recv() {
                Some(message) => waiting.push_back(message),
                None => return,
            }
        }
    }
}

impl Disk {
    pub(super) fn new(
        journal: Journal,
        directory: Option<PathBuf>,
        loaded: &Loaded,
        snapshot_after: u64,
    ) -> Self {
        Self {
            journal,
            directory,
            row: loaded.row,
            snapshot: loaded.snapshot,
            trimmed: loaded.trimmed,
            bytes: loaded.replayed_bytes,
            snapshot_after,
            running: None,
        }
    }

    /// Begins a snapshot in the background if the journal has become long, and notes one that was finished.
    ///
    /// The thread builds a book of its own from the last snapshot and the rows after it. Writing an image of the book
    /// that sells would be simpler, but the sale would stand still for as long: seconds, for millions of orders.
    fn look_after_snapshots(&mut self, book: &Book, shared: &Arc<Shared>) {
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
        let (journal, role, shared) = (self.journal.clone(), book.role(), Arc::clone(shared));
        let work = move || {
            shared.alone(|| {
                let go_on = || !shared.closing.load(Ordering::Relaxed);
                let Some(loaded) = journal.load(Some(&directory), role, &go_on)? else { return Ok(None) };
                snapshot::write(&directory, loaded.row, &loaded.book)?;
                Ok(Some(loaded.row))
            })
        };
        match thread::Builder::new().name("flashsale-snapshot".into()).spawn(work) {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::error!(%error, "no thread for a snapshot; the journal grows"),
        }
    }

    /// Waits for a snapshot in the background.
    fn join(&mut self) {
        match self.running.take().map(JoinHandle::join) {
            Some(Ok(Ok(Some(row)))) => {
                tracing::info!(row, "a snapshot was written");
                self.snapshot = row;
            }
            Some(Ok(Ok(None))) | None => {}
            Some(Ok(Err(error))) => tracing::error!(%error, "a snapshot failed; the journal grows"),
            Some(Err(panic)) => {
                tracing::error!(reason = text_of(&*panic), "a snapshot failed; the journal grows");
            }
        }
    }

    /// Writes the book as a snapshot and deletes all rows. Nothing may be decided meanwhile.
    fn write_snapshot(&mut self, book: &Book) -> Result<(), EmbeddedError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if self.row > self.snapshot {
            snapshot::write(directory, self.row, book)?;
            self.snapshot = self.row;
        }
        if self.trimmed < self.row { self.journal.clear(self.row) } else { Ok(()) }
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic")
}
