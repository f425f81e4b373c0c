//! Steps on their way through the engine: decided by one thread, answered by the other.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ledger::{
    LedgerError,
    state_machine::{Batch, StateMachine},
};

/// A step that waits to be decided, and then for its commit.
pub(super) trait Call: Send {
    /// Takes the step and keeps the answer. An error means that the book is damaged.
    fn run(&mut self, machine: &mut StateMachine, batch: Batch) -> Result<(), Arc<str>>;

    /// Gives the answer.
    fn answer(self: Box<Self>);

    /// Answers an error instead.
    fn fail(self: Box<Self>, error: LedgerError);
}

/// A step as a closure with its answer.
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
        // Whoever asked may have gone; the step was taken all the same.
        if let Some(answer) = self.answer {
            let _ = self.reply.send(answer);
        }
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        let _ = self.reply.send(Err(error));
    }
}
