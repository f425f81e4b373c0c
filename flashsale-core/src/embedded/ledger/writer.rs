//! The thread that owns the book.

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
        state_machine::{Batch, StateMachine},
    },
    panic_message::panic_message,
};

/// What the thread is told.
pub(super) enum Message {
    /// Takes a step.
    Call(Box<dyn Call>),
    /// Takes what waits, writes a snapshot, and ends.
    Close(CloseReply),
}

pub(super) type CloseReply = oneshot::Sender<Result<(), EmbeddedError>>;

/// The thread's state.
pub(super) struct Writer {
    pub(super) machine: StateMachine,
    /// Who makes it durable; nobody for a ledger in memory.
    pub(super) committer: Option<Committer>,
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
    /// Whether the steps decided last took effect is unknown.
    Unknown(Arc<str>),
    /// The steps decided last took no effect.
    Nothing(Arc<str>),
    /// The other thread could not write what was decided before; it has said so.
    Committer,
}

/// The most steps in one commit.
const MAX_STEPS: usize = 1_024;

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

    /// The thread: decides until it is told to close, everybody has gone, or something fails.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()));
        let failure = match ended {
            Ok(Ok(reply)) => return self.close(reply),
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Unknown(format!("a bug: {}", panic_message(&*panic)).into()),
        };
        let (reason, error) = match failure {
            Failure::Unknown(reason) => (self.shared.stop(Arc::clone(&reason)), LedgerError::Unknown(reason)),
            Failure::Nothing(reason) => (self.shared.stop(Arc::clone(&reason)), LedgerError::Stopped(reason)),
            Failure::Committer => {
                let reason = self.shared.reason();
                (Arc::clone(&reason), LedgerError::Stopped(reason))
            }
        };
        for call in self.decided.drain(..) {
            call.fail(error.clone());
        }
        self.turn_away(&reason);
        // What was decided before is committed and answered all the same.
        drop(self.committer.take().map(Committer::join));
    }

    /// Decides what comes. Ends with whom to tell that the engine is closed, if anybody wants to know.
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

    /// Waits for something to do; `false` if everybody has gone.
    fn receive(&mut self) -> bool {
        let mut received = Vec::new();
        let any = self.receiver.blocking_recv_many(&mut received, MAX_STEPS) > 0;
        self.waiting.extend(received);
        any
    }

    /// Decides what waits, until the commit is large enough.
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
            run.map_err(Failure::Nothing)?;
            if self.is_full() {
                break;
            }
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.machine.journalled().len() >= self.commit_bytes || self.decided.len() >= MAX_STEPS
    }

    /// Whether more goes into this commit: there is room, somebody waits, and the commit before is not done yet.
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

    /// Gives what was decided to the other thread, which commits and answers it.
    fn hand_over(&mut self) -> Result<(), Failure> {
        let Some(committer) = &mut self.committer else {
            self.decided.drain(..).for_each(Call::answer);
            return Ok(());
        };
        let room = committer.ready().ok_or(Failure::Committer)?;
        let commit =
            Commit { records: self.machine.take_journal(room), decided: std::mem::take(&mut self.decided) };
        committer.commit(commit).map_err(|Commit { decided, .. }| {
            self.decided = decided;
            Failure::Committer
        })
    }

    /// Ends in order: a snapshot makes the next start short.
    fn close(mut self, reply: Option<CloseReply>) {
        let reason: Arc<str> = "it was closed".into();
        self.shared.closing.store(true, Ordering::Relaxed);
        let is_durable = self.committer.is_some();
        let disk = self.committer.take().and_then(Committer::join);
        let reason = Arc::clone(self.shared.stopped.get_or_init(|| reason));
        self.turn_away(&reason);
        let mut result = Ok(());
        match disk {
            Some(mut disk) => {
                disk.join();
                if reply.is_some() {
                    result = self.shared.alone(|| disk.write_snapshot(&self.machine));
                }
                // The file has to be free when the answer arrives, so that it can be opened again.
                drop(disk);
            }
            None if is_durable => result = Err(EmbeddedError::Stopped(reason)),
            None => {}
        }
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
