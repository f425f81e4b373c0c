//! The engine's handle, through which callers use it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    archive_file::ArchiveFile,
    available_memory,
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
        state_machine::{Batch, Census, Inspection, MAX_UNREAD, RoomBudget, StateMachine},
    },
};

/// Options for opening an engine.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The directory of journal and snapshots; created if missing.
    pub directory: PathBuf,
    /// The role of the ledger.
    pub role: LedgerRole,
    /// The deciding clock.
    pub clock: Arc<dyn Clock>,
    /// Maximum items of a batch. Default 4,096.
    pub max_batch: usize,
    /// Maximum calls waiting to be decided; further callers wait for a free place. Default 1,024.
    pub max_waiting: usize,
    /// A commit accepts no further call once its records reach this many bytes. Default 1 MiB.
    pub commit_bytes: usize,
    /// A background snapshot starts when the journal has grown by this many bytes. Default 256 MiB.
    /// It needs memory for a second state machine. Smaller values shorten the restart after a
    /// crash.
    pub snapshot_after_bytes: u64,
    /// Memory that lanes may reserve for their orders before they sell, in bytes, over all lanes
    /// together: about 200 per unit on sale. A lane that gets less grows while it sells, and each
    /// time it doubles, one batch of buyers waits (docs/BENCHMARKS.md). Default: a quarter of the
    /// memory that is available when the options are made ([`EmbeddedOptions::available_bytes`]).
    pub room_bytes: u64,
    /// Events that a consumer may leave unread in a lane's outbox, about. With more, the lane places no
    /// orders ([`LedgerError::Unavailable`]) until the consumer goes on or is retired; everything else
    /// goes on, and no event is dropped. An event takes about 250 bytes of memory, so this bounds an
    /// outbox at about 250 MB and later steps of orders. Default [`MAX_UNREAD`].
    pub max_unread: u64,
}

impl EmbeddedOptions {
    /// Default options.
    pub fn new(directory: impl Into<PathBuf>, role: LedgerRole, clock: Arc<dyn Clock>) -> Self {
        Self {
            directory: directory.into(),
            role,
            clock,
            max_batch: 4_096,
            max_waiting: 1_024,
            commit_bytes: 1 << 20,
            snapshot_after_bytes: 256 << 20,
            room_bytes: Self::available_bytes() / 4,
            max_unread: MAX_UNREAD,
        }
    }

    /// The memory that this process can still use, in bytes: what the machine has available, or the
    /// limit of its control group if that is lower. 1 GiB where neither can be read, as outside of
    /// Linux.
    pub fn available_bytes() -> u64 {
        available_memory::bytes(Path::new("/")).unwrap_or(1 << 30)
    }
}

/// A [`Ledger`](crate::ledger::Ledger) in this process: the only one, a gate or a truth. Its role decides
/// which calls it accepts.
///
/// Dropping it finishes the calls in progress, but writes no snapshot.
pub struct EmbeddedLedger {
    role: LedgerRole,
    bounds: Bounds,
    /// Whether decisions are journalled.
    is_durable: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// The journal and its directory, for backups; `None` once the engine is closed.
    files: Mutex<Option<Files>>,
    /// The activities that are not in memory; `None` once the engine is closed.
    archive: Mutex<Option<ArchiveFile>>,
    /// Held while an activity moves out of memory or back.
    pub(super) moving: Arc<tokio::sync::Mutex<()>>,
    decided_until: Timestamp,
    /// The memory that lanes may reserve.
    pub(super) room: RoomBudget,
    pub(super) shared: Arc<Shared>,
    sender: Option<mpsc::Sender<Message>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) type Files = (Journal, Option<PathBuf>);

impl EmbeddedLedger {
    /// Starts an engine without a journal. Its content is lost when it is dropped.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    pub fn in_memory(role: LedgerRole, clock: Arc<dyn Clock>) -> Self {
        tracing::warn!(?role, "the ledger is in memory only: no order survives this process");
        let options = EmbeddedOptions::new("", role, clock);
        let archive = ArchiveFile::in_memory().expect("an empty store in memory can be created");
        Self::start(options, None, archive, StateMachine::new(role))
            .expect("the system can start one more thread")
    }

    /// Opens the engine of a directory, creating it if it is missing, and replays its journal.
    /// Blocks on the disk; call it before serving starts.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it open, it was written by a newer version
    /// or a ledger of another role, or it is damaged. Existing files are left as they were.
    pub fn open(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let directory = options.directory.clone();
        fs::create_dir_all(&directory)
            .map_err(|error| EmbeddedError::unusable(&directory, "created", error))?;
        let journal = Journal::open(&directory, options.role)?;
        let archive = ArchiveFile::open(&directory)?;
        Self::with_journal(options, journal, archive, Some(directory))
    }

    pub(super) fn with_journal(
        options: EmbeddedOptions,
        journal: Journal,
        archive: ArchiveFile,
        directory: Option<PathBuf>,
    ) -> Result<Self, EmbeddedError> {
        let loaded = journal
            .load(directory.as_deref(), options.role, &archive, &|| true)?
            .expect("loading is never cancelled here");
        tracing::info!(
            directory = %options.directory.display(),
            snapshot = loaded.snapshot,
            row = loaded.row,
            replayed_bytes = loaded.replayed_bytes,
            "the ledger is loaded"
        );
        let disk = Disk::new(
            journal,
            archive.clone(),
            directory,
            options.role,
            &loaded,
            options.snapshot_after_bytes,
        );
        Self::start(options, Some(disk), archive, loaded.machine)
    }

    fn start(
        options: EmbeddedOptions,
        disk: Option<Disk>,
        archive: ArchiveFile,
        mut machine: StateMachine,
    ) -> Result<Self, EmbeddedError> {
        if disk.is_some() {
            machine.journal();
        }
        let room = RoomBudget::new(options.room_bytes);
        machine.make_room(&room, options.clock.now());
        machine.bound_outboxes(options.max_unread);
        let EmbeddedOptions { directory, role, clock, max_batch, max_waiting, commit_bytes, .. } = options;
        let files = disk.as_ref().map(|disk| (disk.journal.clone(), disk.directory.clone()));
        let shared = Arc::new(Shared::default());
        let decided_until = machine.last_decision();
        let (sender, receiver) = mpsc::channel(max_waiting.max(1));
        let committer = disk.map(|disk| Committer::start(disk, Arc::clone(&shared))).transpose()?;
        let writer =
            Writer::new(machine, committer, Arc::clone(&clock), receiver, Arc::clone(&shared), commit_bytes);
        let thread = thread::Builder::new()
            .name("flashsale-ledger".into())
            .spawn(move || writer.run())
            .map_err(|error| EmbeddedError::unusable(directory, "served by a new thread", error))?;
        Ok(Self {
            role,
            bounds: Bounds {
                max_batch: max_batch.max(1),
                max_in_flight: if files.is_some() { 2 } else { 1 },
                is_shared: false,
                key_retention: None,
            },
            is_durable: files.is_some(),
            archive: Mutex::new(Some(archive)),
            moving: Arc::default(),
            decided_until,
            room,
            clock,
            files: Mutex::new(files),
            shared,
            sender: Some(sender),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The role of the ledger.
    pub fn role(&self) -> LedgerRole {
        self.role
    }

    /// The time of the last decision in any lane when the engine was opened. A deciding clock that
    /// starts earlier would hold that lane's time still.
    pub fn decided_until(&self) -> Timestamp {
        self.decided_until
    }

    /// Checks that the engine is running.
    ///
    /// # Errors
    /// [`EmbeddedError::Stopped`], with the reason, if it has stopped or was closed.
    pub fn health(&self) -> Result<(), EmbeddedError> {
        self.shared.stopped.get().map_or(Ok(()), |reason| Err(EmbeddedError::Stopped(Arc::clone(reason))))
    }

    /// Metrics of the commits since the engine was opened.
    pub fn commits(&self) -> &CommitMetrics {
        &self.shared.commits
    }

    /// Finishes the waiting calls, writes a snapshot to shorten the next start, and releases the
    /// files. Later calls get [`LedgerError::Stopped`].
    ///
    /// # Errors
    /// The engine had stopped before, or the snapshot could not be written. No order is lost in
    /// either case: the next start replays the journal.
    pub async fn close(&self) -> Result<(), EmbeddedError> {
        // A move in progress has the archive's file open.
        let _moving = self.moving.lock().await;
        drop(self.files.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.archive.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (reply, answer) = oneshot::channel();
        let stopped = || EmbeddedError::Stopped(self.reason());
        self.sender().send(Message::Close(reply)).await.map_err(|_| stopped())?;
        let result = answer.await.map_err(|_| stopped())?;
        self.join();
        result
    }

    /// Returns an activity with all its counters, to check invariants; `None` if it is not open.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] or [`LedgerError::Unknown`].
    pub async fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, LedgerError> {
        self.read_of(
            activity,
            move |machine| machine.inspect(activity),
            move |archive| archive.inspect(activity),
        )
        .await
    }

    /// Returns an activity's numbers for monitoring; `None` if it is not open. Takes well below 1
    /// ms.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] or [`LedgerError::Unknown`].
    pub async fn census(&self, activity: ActivityId) -> Result<Option<Census>, LedgerError> {
        self.call(move |machine, batch| Ok(machine.census(batch.now, activity))).await
    }

    /// Advances a lane's clock to at least `to`; it decides nothing before then. Not journalled.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub async fn advance_time(&self, lane: Lane, to: Timestamp) -> Result<(), LedgerError> {
        self.call_of(lane.activity, move |machine, _| machine.advance_time(lane, to)).await
    }

    /// Sends a call to the writer thread and waits until its effects are durable.
    pub(crate) async fn call<T, F>(&self, step: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send + 'static,
    {
        wait_for(send(self.sender(), &self.shared, step).await?).await
    }

    /// A handle to make calls from a task, which does not keep the engine running.
    pub(super) fn caller(&self) -> Caller {
        Caller { sender: self.sender().downgrade(), shared: Arc::clone(&self.shared) }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The activities that are not in memory.
    pub(super) fn archived(&self) -> Result<ArchiveFile, LedgerError> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        archive.ok_or_else(|| LedgerError::Stopped(self.reason()))
    }

    /// The journal and its directory.
    pub(super) fn files(&self) -> Result<Files, EmbeddedError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let missing =
            || if self.is_durable { EmbeddedError::Stopped(self.reason()) } else { EmbeddedError::InMemory };
        files.ok_or_else(missing)
    }

    fn sender(&self) -> &mpsc::Sender<Message> {
        self.sender.as_ref().expect("the sender exists until the engine is dropped")
    }

    fn reason(&self) -> Arc<str> {
        self.shared.reason()
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread catches and reports its own panics.
        let _ = thread.map(JoinHandle::join);
    }
}

/// Makes calls for a task that may outlive the engine.
pub(super) struct Caller {
    sender: mpsc::WeakSender<Message>,
    shared: Arc<Shared>,
}

impl Caller {
    /// As [`EmbeddedLedger::call`].
    pub(super) async fn call<T, F>(&self, step: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send + 'static,
    {
        // The sender is gone before the answer comes: the engine ends when nobody has one.
        let answer = match self.sender.upgrade() {
            Some(sender) => send(&sender, &self.shared, step).await?,
            None => return Err(LedgerError::Stopped(self.shared.reason())),
        };
        wait_for(answer).await
    }
}

/// Sends a call. Returns where its answer comes.
async fn send<T, F>(
    sender: &mpsc::Sender<Message>,
    shared: &Shared,
    step: F,
) -> Result<oneshot::Receiver<Result<T, LedgerError>>, LedgerError>
where
    T: Send + 'static,
    F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send + 'static,
{
    shared.commits.calls.fetch_add(1, Ordering::Relaxed);
    let (reply, answer) = oneshot::channel();
    let call = Box::new(Step { step: Some(step), answer: None, reply });
    if sender.send(Message::Call(call)).await.is_err() {
        return Err(LedgerError::Stopped(shared.reason()));
    }
    Ok(answer)
}

async fn wait_for<T>(answer: oneshot::Receiver<Result<T, LedgerError>>) -> Result<T, LedgerError> {
    answer.await.unwrap_or_else(|_| Err(LedgerError::Unknown("the engine ended before it answered".into())))
}

/// Simulated data loss, for tests of two tiers. Only an engine in memory supports it.
#[cfg(any(test, feature = "conformance"))]
impl EmbeddedLedger {
    /// Returns an image of the engine's whole content.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`].
    pub async fn image(&self) -> Result<crate::ledger::state_machine::Image, LedgerError> {
        self.call(|machine, _| Ok(machine.image())).await
    }

    /// Replaces the whole content by an image.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the engine has a journal, or the image is inconsistent or of
    /// another role.
    pub async fn replace(&self, image: crate::ledger::state_machine::Image) -> Result<(), LedgerError> {
        let invalid = |reason: String| LedgerError::from(crate::domain::Invalid::new("image", reason));
        if self.is_durable {
            return Err(invalid("an engine with a journal cannot be replaced".into()));
        }
        let role = self.role;
        self.call(move |machine, _| {
            let mut replacement =
                StateMachine::of_image(image).map_err(|error| invalid(error.to_string()))?;
            if replacement.role() != role {
                return Err(invalid("has another role".into()));
            }
            replacement.take_bounds_of(machine);
            *machine = replacement;
            Ok(())
        })
        .await
    }

    /// Erases the whole content, as a crash does to a store without a disk.
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
