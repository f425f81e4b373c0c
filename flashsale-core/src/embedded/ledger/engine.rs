//! The engine as callers hold it.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    call::Step,
    commit_metrics::CommitMetrics,
    committer::{Committer, Disk, Shared},
    error::EmbeddedError,
    journal::Journal,
    writer::{Message, Writer},
};
use crate::{
    domain::{ActivityId, Clock, Timestamp},
    ledger::{
        Bounds, Lane, LedgerError, LedgerRole,
        state_machine::{Batch, Census, Inspection, StateMachine},
    },
};

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where journal and snapshots are; made if it is not there.
    pub directory: PathBuf,
    /// What the ledger is for.
    pub role: LedgerRole,
    /// The deciding clock.
    pub clock: Arc<dyn Clock>,
    /// The most items of one batch. Default 4,096.
    pub max_batch: usize,
    /// The most steps that wait to be decided; more callers than that wait for room. Default 1,024.
    pub max_waiting: usize,
    /// A commit takes no further step once it has so many bytes. Default 1 MiB.
    pub commit_bytes: usize,
    /// A snapshot is written in the background when the journal has grown by so many bytes. Default 256 MiB.
    ///
    /// Meanwhile the book is twice in memory. A smaller number makes restarts after a crash shorter.
    pub snapshot_after_bytes: u64,
}

impl EmbeddedOptions {
    /// The defaults.
    pub fn new(directory: impl Into<PathBuf>, role: LedgerRole, clock: Arc<dyn Clock>) -> Self {
        Self {
            directory: directory.into(),
            role,
            clock,
            max_batch: 4_096,
            max_waiting: 1_024,
            commit_bytes: 1 << 20,
            snapshot_after_bytes: 256 << 20,
        }
    }
}

/// A [`Ledger`](crate::ledger::Ledger), [`Gate`](crate::ledger::Gate) and [`Truth`](crate::ledger::Truth) in this
/// process; its role decides what it answers.
///
/// Dropping it waits for the step that is being committed, and writes no snapshot: the next start repeats the journal.
pub struct EmbeddedLedger {
    role: LedgerRole,
    bounds: Bounds,
    /// Whether what it decides is journalled.
    is_durable: bool,
    /// The journal with its directory, to make copies of, until the engine is closed.
    files: Mutex<Option<Files>>,
    pub(super) shared: Arc<Shared>,
    sender: Option<mpsc::Sender<Message>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) type Files = (Journal, Option<PathBuf>);

impl EmbeddedLedger {
    /// An engine that keeps nothing: everything is gone with it.
    ///
    /// # Panics
    /// If the system has no thread for it.
    pub fn in_memory(role: LedgerRole, clock: Arc<dyn Clock>) -> Self {
        tracing::warn!(?role, "the ledger is in memory only: no order survives this process");
        let options = EmbeddedOptions::new("", role, clock);
        Self::start(options, None, StateMachine::new(role)).expect("a process can start one more thread")
    }

    /// Opens the engine of a directory, which is made if it is not there, and repeats its journal.
    ///
    /// This blocks on the disk: call it before serving starts.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it open, a newer version or a ledger of another role wrote it,
    /// or it is damaged. What was there is left as it was.
    pub fn open(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let directory = options.directory.clone();
        fs::create_dir_all(&directory).map_err(|error| EmbeddedError::unusable(&directory, "made", error))?;
        let journal = Journal::open(&directory, options.role)?;
        Self::with_journal(options, journal, Some(directory))
    }

    pub(super) fn with_journal(
        options: EmbeddedOptions,
        journal: Journal,
        directory: Option<PathBuf>,
    ) -> Result<Self, EmbeddedError> {
        let loaded = journal
            .load(directory.as_deref(), options.role, &|| true)?
            .expect("loading was not told to give up");
        tracing::info!(
            directory = %options.directory.display(),
            snapshot = loaded.snapshot,
            row = loaded.row,
            replayed_bytes = loaded.replayed_bytes,
            "the ledger is loaded"
        );
        let disk = Disk::new(journal, directory, options.role, &loaded, options.snapshot_after_bytes);
        Self::start(options, Some(disk), loaded.machine)
    }

    fn start(
        options: EmbeddedOptions,
        disk: Option<Disk>,
        mut machine: StateMachine,
    ) -> Result<Self, EmbeddedError> {
        if disk.is_some() {
            machine.journal();
        }
        let EmbeddedOptions { directory, role, clock, max_batch, max_waiting, commit_bytes, .. } = options;
        let files = disk.as_ref().map(|disk| (disk.journal.clone(), disk.directory.clone()));
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = mpsc::channel(max_waiting.max(1));
        let committer = disk.map(|disk| Committer::start(disk, Arc::clone(&shared))).transpose()?;
        let writer = Writer::new(machine, committer, clock, receiver, Arc::clone(&shared), commit_bytes);
        let thread = thread::Builder::new()
            .name("flashsale-ledger".into())
            .spawn(move || writer.run())
            .map_err(|error| EmbeddedError::unusable(directory, "served by a thread", error))?;
        Ok(Self {
            role,
            bounds: Bounds {
                max_batch: max_batch.max(1),
                max_in_flight: if files.is_some() { 2 } else { 1 },
                key_retention: None,
            },
            is_durable: files.is_some(),
            files: Mutex::new(files),
            shared,
            sender: Some(sender),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What the ledger is for.
    pub fn role(&self) -> LedgerRole {
        self.role
    }

    /// Whether the engine decides.
    ///
    /// # Errors
    /// It has stopped or was closed; the error says why.
    pub fn health(&self) -> Result<(), EmbeddedError> {
        self.shared.stopped.get().map_or(Ok(()), |reason| Err(EmbeddedError::Stopped(Arc::clone(reason))))
    }

    /// What was committed since the start.
    pub fn commits(&self) -> &CommitMetrics {
        &self.shared.commits
    }

    /// Takes the steps that wait, writes a snapshot so that the next start is short, and frees the files. Later calls are
    /// answered [`LedgerError::Stopped`].
    ///
    /// # Errors
    /// The engine has stopped before, or the snapshot could not be written. No order is lost then either: the next start
    /// repeats the journal.
    pub async fn close(&self) -> Result<(), EmbeddedError> {
        drop(self.files.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (reply, answer) = oneshot::channel();
        let stopped = || EmbeddedError::Stopped(self.reason());
        self.sender().send(Message::Close(reply)).await.map_err(|_| stopped())?;
        let result = answer.await.map_err(|_| stopped())?;
        self.join();
        result
    }

    /// An activity with all counters, as the invariants want it; `None` if it is not open here.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, LedgerError> {
        self.call(move |machine, _| Ok(machine.inspect(activity))).await
    }

    /// The numbers of an activity for monitors; `None` if it is not open here. Costs well below a millisecond of the thread.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn census(&self, activity: ActivityId) -> Result<Option<Census>, LedgerError> {
        self.call(move |machine, batch| Ok(machine.census(batch.now, activity))).await
    }

    /// Raises the last time of a lane: it decides nothing before that moment any more. It is not journalled.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub async fn advance_time(&self, lane: Lane, to: Timestamp) -> Result<(), LedgerError> {
        self.call(move |machine, _| machine.advance_time(lane, to)).await
    }

    /// Hands a step to the thread, and waits until it is durable.
    pub(crate) async fn call<T, F>(&self, step: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Step { step: Some(step), answer: None, reply });
        if self.sender().send(Message::Call(call)).await.is_err() {
            return Err(LedgerError::Stopped(self.reason()));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(LedgerError::Unknown("the engine ended without an answer".into())))
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The journal with its directory.
    pub(super) fn files(&self) -> Result<Files, EmbeddedError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let missing =
            || if self.is_durable { EmbeddedError::Stopped(self.reason()) } else { EmbeddedError::InMemory };
        files.ok_or_else(missing)
    }

    fn sender(&self) -> &mpsc::Sender<Message> {
        self.sender.as_ref().expect("the sender is there until the engine is dropped")
    }

    fn reason(&self) -> Arc<str> {
        self.shared.reason()
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread catches its panics and says so.
        let _ = thread.map(JoinHandle::join);
    }
}

/// For tests of two tiers: a ledger that loses what it had. Only an engine in memory can.
#[cfg(any(test, feature = "conformance"))]
impl EmbeddedLedger {
    /// Everything that the engine holds.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`].
    pub async fn image(&self) -> Result<crate::ledger::state_machine::Image, LedgerError> {
        self.call(|machine, _| Ok(machine.image())).await
    }

    /// Puts what an image shows in the place of everything.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the engine has a journal or another role, or the image does not fit together.
    pub async fn replace(&self, image: crate::ledger::state_machine::Image) -> Result<(), LedgerError> {
        let invalid = |reason: String| LedgerError::from(crate::domain::Invalid::new("image", reason));
        if self.is_durable {
            return Err(invalid("what a journal has written cannot be replaced".into()));
        }
        let role = self.role;
        self.call(move |machine, _| {
            let replacement = StateMachine::of_image(image).map_err(|misfit| invalid(misfit.to_string()))?;
            if replacement.role() != role {
                return Err(invalid("is of another role".into()));
            }
            *machine = replacement;
            Ok(())
        })
        .await
    }

    /// Forgets everything, as a store without a disk does in a crash.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the engine has a journal.
    pub async fn wipe(&self) -> Result<(), LedgerError> {
        self.replace(StateMachine::new(self.role).image()).await
    }
}

impl Drop for EmbeddedLedger {
    fn drop(&mut self) {
        drop(self.sender.take());
        self.join();
    }
}

impl fmt::Debug for EmbeddedLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("role", &self.role)
            .field("is_durable", &self.is_durable)
            .field("stopped", &self.shared.stopped.get())
            .finish_non_exhaustive()
    }
}
