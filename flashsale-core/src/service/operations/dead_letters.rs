//! Dead letters: what the queue could not do, and what a person decides about it.

use serde_json::json;

use super::{OperationError, Operations};
use crate::{
    catalogue::Change,
    domain::{Attribution, RefundStatus},
    ledger::RefundTask,
    queue::{DeadLetter, JobNumber},
    service::refunds,
};

impl Operations {
    /// Dead letters by their numbers, from the one after `after`, at most `limit`.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn dead_letters(
        &self,
        after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, OperationError> {
        Ok(self.queue.dead_letters(after, limit).await?)
    }

    /// One dead letter; `None` if no job with this number is parked.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, OperationError> {
        Ok(self.queue.dead_letter(number).await?)
    }

    /// Has a dead letter tried again from the beginning; answers what it was, or `None` if no job with this number is
    /// parked, which it is not after the first of two calls either.
    ///
    /// # Errors
    /// Those of catalogue and queue; repeat it.
    pub async fn replay_dead_letter(
        &self,
        number: JobNumber,
        by: &Attribution,
    ) -> Result<Option<DeadLetter>, OperationError> {
        let Some(letter) = self.queue.dead_letter(number).await? else { return Ok(None) };
        self.note(&letter, "replayed", by).await?;
        self.queue.replay(number).await?;
        Ok(Some(letter))
    }

    /// Gives a dead letter up; answers what it was, or `None` if no job with this number is parked, which it is not after
    /// the first of two calls either.
    ///
    /// A refund that is given up has failed for good: its order says so from then on, and whoever owes the money has to send
    /// it in another way.
    ///
    /// # Errors
    /// [`OperationError::AlreadyRefunded`] if it turns out that the money went back after all: the letter is gone then, and
    /// nothing is to be sent. Those of catalogue, ledger and queue; repeat it.
    pub async fn discard_dead_letter(
        &self,
        number: JobNumber,
        by: &Attribution,
    ) -> Result<Option<DeadLetter>, OperationError> {
        let Some(letter) = self.queue.dead_letter(number).await? else { return Ok(None) };
        let refund = (letter.topic == refunds::topic())
            .then(|| serde_json::from_str::<RefundTask>(&letter.content).ok())
            .flatten();
        if let Some(task) = &refund
            && self.payments.refund_of(task).await? == Some(RefundStatus::Done)
        {
            // The answer of the last attempt was lost. Whoever gives it up would send the money once more.
            self.note(&letter, "found_done", by).await?;
            self.queue.discard(number).await?;
            return Err(OperationError::AlreadyRefunded);
        }
        self.note(&letter, "discarded", by).await?;
        // First the ledger: a refund that is due and in no queue would be put in again.
        if let Some(task) = &refund {
            self.payments.give_up_refund(task).await?;
        }
        self.queue.discard(number).await?;
        Ok(Some(letter))
    }

    /// Writes what is decided about a dead letter, once for each time that it was parked. It is the decision: what follows is
    /// done by a repetition if a crash prevents it.
    async fn note(&self, letter: &DeadLetter, verb: &str, by: &Attribution) -> Result<(), OperationError> {
        let DeadLetter { number, claims, topic, id, attempts, error, parked_at, .. } = letter;
        let change = Change {
            action: format!("dead_letter.{verb}").parse()?,
            subject: format!("dead_letter/{number}").parse()?,
            detail: json!({ "topic": topic, "job": id, "attempts": attempts, "error": error }),
        };
        // Numbers begin again with a new file of the queue.
        let event = format!("dead_letter/{number}/{claims}/{}/{verb}", parked_at.as_millis()).parse()?;
        self.catalogue.record(&event, change, by).await?;
        Ok(())
    }
}
