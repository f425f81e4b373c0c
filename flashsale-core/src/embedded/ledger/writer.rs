//! The writer thread, which owns the state machine.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    call::Call,
    committer::{Commit, Committer, Shared},
    error::EmbeddedError,
};
use crate::{
    domain::Clock,
    ledger::{
        BatchId, LedgerError,
        state_machine::{Batch, StateMachine, UnusedRoom},
    },
    panic_message::panic_message,
};

/// A message to the writer.
pub(super) enum Message {
    /// Decides a call.
    Call(Box<dyn Call>),
    /// Finishes the waiting calls, writes a snapshot, and ends.
    Close(CloseReply),
}

pub(super) type CloseReply = oneshot::Sender<Result<(), EmbeddedError>>;

/// The state of the writer thread.
pub(super) struct Writer {
    pub(super) machine: StateMachine,
    /// Makes decisions durable; `None` for a ledger in memory.
    pub(super) committer: Option<Committer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) receiver: mpsc::Receiver<Message>,
    pub(super) shared: Arc<Shared>,
    pub(super) commit_bytes: usize,
    batch: u64,
    /// Received and not yet decided.
    waiting: VecDeque<Message>,
    /// Decided and not yet handed over to be committed and answered.
    decided: Vec<Box<dyn Call>>,
}

/// Why the thread ends unasked.
enum Failure {
    /// It is unknown whether the calls decided last took effect.
    Unknown(Arc<str>),
    /// The calls decided last took no effect.
    Undone(Arc<str>),
    /// The committer failed to write an earlier commit, and has recorded the reason.
    Committer,
}

/// Maximum calls in one commit.
const MAX_CALLS: usize = 1_024;

impl Writer {
    pub(super) fn new(
        machine: StateMachine,
        committer: Option<Committer>,
        clock: Arc<dyn Clock>,
        receiver: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
        commit_bytes: usize,
    ) -> Self {
        let (batch, waiting, decided) = (fastrand::u64(..), VecDeque::new(), Vec::new());
        Self { machine, committer, clock, receiver, shared, commit_bytes, batch, waiting, decided }
    }

    /// Runs the thread until it is told to close, all senders are gone, or something fails.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()));
        let failure = match ended {
            Ok(Ok(reply)) => return self.close(reply),
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Unknown(format!("a bug: {}", panic_message(&*panic)).into()),
        };
        let (reason, error) = match failure {
            Failure::Unknown(reason) => (self.shared.stop(Arc::clone(&reason)), LedgerError::Unknown(reason)),
            Failure::Undone(reason) => (self.shared.stop(Arc::clone(&reason)), LedgerError::Stopped(reason)),
            Failure::Committer => {
                let reason = self.shared.reason();
                (Arc::clone(&reason), LedgerError::Stopped(reason))
            }
        };
        for call in self.decided.drain(..) {
            call.fail(error.clone());
        }
        self.reject_waiting(&reason);
        // Earlier decisions are still committed and answered.
        drop(self.committer.take().map(Committer::join));
    }

    /// Decides messages until it is told to close. Returns whom to tell when the engine is closed.
    fn work(&mut self) -> Result<Option<CloseReply>, Failure> {
        loop {
            if self.waiting.is_empty() && !self.receive() {
                return Ok(None);
            }
            let close = self.decide()?;
            if close.is_none() && self.is_collecting() {
                continue;
            }
            self.hand_over()?;
            if close.is_some() {
                return Ok(close);
            }
        }
    }

    /// Waits for messages; `false` if all senders are gone.
    fn receive(&mut self) -> bool {
        let mut received = Vec::new();
        let any = self.receiver.blocking_recv_many(&mut received, MAX_CALLS) > 0;
        self.waiting.extend(received);
        any
    }

    /// Decides the waiting calls until the commit is full. Returns the reply of a close message.
    fn decide(&mut self) -> Result<Option<CloseReply>, Failure> {
        while let Some(message) = self.waiting.pop_front() {
            let mut call = match message {
                Message::Call(call) => call,
                Message::Close(reply) => return Ok(Some(reply)),
            };
            self.batch = self.batch.wrapping_add(1);
            let batch = Batch { id: BatchId(self.batch), now: self.clock.now() };
            let run = call.run(&mut self.machine, batch);
            self.decided.push(call);
            run.map_err(Failure::Undone)?;
            let unused = self.machine.give_back_room(batch.now);
            if !unused.is_empty() {
                free(unused);
            }
            if self.is_full() {
                break;
            }
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.machine.journalled().len() >= self.commit_bytes || self.decided.len() >= MAX_CALLS
    }

    /// Whether to add more to this commit: it is not full, calls wait, and the committer is busy.
    fn is_collecting(&mut self) -> bool {
        let full = self.is_full();
        let Some(committer) = &mut self.committer else { return false };
        if full || committer.is_ready() {
            return false;
        }
        if let Ok(message) = self.receiver.try_recv() {
            self.waiting.push_back(message);
        }
        !self.waiting.is_empty()
    }

    /// Hands the decided calls to the committer, which commits and answers them.
    fn hand_over(&mut self) -> Result<(), Failure> {
        let Some(committer) = &mut self.committer else {
            self.decided.drain(..).for_each(Call::answer);
            return Ok(());
        };
        let buffer = committer.ready().ok_or(Failure::Committer)?;
        let commit =
            Commit { records: self.machine.take_journal(buffer), decided: std::mem::take(&mut self.decided) };
        committer.commit(commit).map_err(|Commit { decided, .. }| {
            self.decided = decided;
            Failure::Committer
        })
    }

    /// Ends the thread in order, with a snapshot if it was told to close.
    fn close(mut self, reply: Option<CloseReply>) {
        let reason: Arc<str> = "it was closed".into();
        self.shared.closing.store(true, Ordering::Relaxed);
        let is_durable = self.committer.is_some();
        let disk = self.committer.take().and_then(Committer::join);
        let reason = Arc::clone(self.shared.stopped.get_or_init(|| reason));
        self.reject_waiting(&reason);
        let mut result = Ok(());
        match disk {
            Some(mut disk) => {
                disk.join();
                if reply.is_some() {
                    result = self.shared.lock_snapshots(|| disk.write_snapshot(&self.machine));
                }
                // Release the file before replying, so that the caller can open it again.
                drop(disk);
            }
            None if is_durable => result = Err(EmbeddedError::Stopped(reason)),
            None => {}
        }
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }

    /// Rejects all waiting and later messages.
    fn reject_waiting(&mut self, reason: &Arc<str>) {
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

/// Frees memory on a thread of its own: returning hundreds of megabytes to the operating system takes
/// milliseconds.
fn free(unused: Vec<UnusedRoom>) {
    let freeing = std::thread::Builder::new().name("flashsale-free".into()).spawn(move || drop(unused));
    if let Err(error) = freeing {
        tracing::debug!(%error, "no thread to free memory; it was freed at once");
    }
}
