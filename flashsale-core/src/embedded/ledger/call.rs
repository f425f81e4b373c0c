//! Calls on their way through the engine: decided by the writer, answered by the committer.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ledger::{
    LedgerError,
    state_machine::{Batch, StateMachine},
};

/// A call that waits for its decision, and then for its commit.
pub(super) trait Call: Send {
    /// Decides the call and keeps the answer. An error means that the state machine is corrupt.
    fn run(&mut self, machine: &mut StateMachine, batch: Batch) -> Result<(), Arc<str>>;

    /// Sends the answer to the caller.
    fn answer(self: Box<Self>);

    /// Sends an error instead of the answer.
    fn fail(self: Box<Self>, error: LedgerError);
}

/// A call as a closure.
pub(super) struct Step<F, T> {
    pub(super) step: Option<F>,
    pub(super) answer: Option<Result<T, LedgerError>>,
    pub(super) reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<F, T> Call for Step<F, T>
where
    F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send,
    T: Send,
{
    fn run(&mut self, machine: &mut StateMachine, batch: Batch) -> Result<(), Arc<str>> {
        let answer = self.step.take().map(|step| step(machine, batch));
        let damage = match &answer {
            Some(Err(LedgerError::Stopped(reason))) => Err(Arc::clone(reason)),
            _ => Ok(()),
        };
        self.answer = answer;
        damage
    }

    fn answer(self: Box<Self>) {
        // The caller may be gone; the call took effect all the same.
        if let Some(answer) = self.answer {
            let _ = self.reply.send(answer);
        }
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        let _ = self.reply.send(Err(error));
    }
}
