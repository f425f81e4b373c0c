//! Dead letters: jobs that kept failing, and what operators decide about them.

use serde_json::json;

use super::{OperationError, Operations};
use crate::{
    catalogue::Change,
    domain::{Attribution, RefundStatus},
    ledger::RefundTask,
    queue::{DeadLetter, JobNumber, MAX_BATCH, Topic},
    service::refunds,
};

impl Operations {
    /// Lists up to `limit` dead letters by number, starting after `after`.
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

    /// Lists up to `limit` dead letters of one topic by number, starting after `after`.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn dead_letters_of(
        &self,
        topic: &Topic,
        mut after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, OperationError> {
        let mut found = Vec::new();
        loop {
            let letters = self.queue.dead_letters(after, MAX_BATCH).await?;
            let is_last = letters.len() < MAX_BATCH;
            after = letters.last().map(|letter| letter.number);
            found.extend(letters.into_iter().filter(|letter| letter.topic == *topic));
            if is_last || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// Returns one dead letter; `None` if no job with this number is parked.
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, OperationError> {
        Ok(self.queue.dead_letter(number).await?)
    }

    /// Makes a dead letter a job again, with no attempts, and returns the letter. Returns `None` if
    /// no job with this number is parked, for instance on a repeated call.
    ///
    /// # Errors
    /// Those of the catalogue and the queue; repeat the call.
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

    /// Discards a dead letter and returns it. Returns `None` if no job with this number is parked,
    /// for instance on a repeated call.
    ///
    /// Discarding a refund marks it as failed in its order. The money is then owed by other means.
    ///
    /// # Errors
    /// [`OperationError::AlreadyRefunded`] if the refund turns out to be paid: the letter is
    /// removed, and no money is owed. Those of the catalogue, ledger and queue; repeat the call.
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
            && self.payments.refund_of(task).await?.is_some_and(|refund| refund.status == RefundStatus::Done)
        {
            // The last answer was lost. Discarding would make an operator pay the money twice.
            self.note(&letter, "found_done", by).await?;
            self.queue.discard(number).await?;
            return Err(OperationError::AlreadyRefunded);
        }
        self.note(&letter, "discarded", by).await?;
        // The ledger first: a refund that is due and not queued would be queued again.
        if let Some(task) = &refund {
            self.payments.abandon_refund(task).await?;
        }
        self.queue.discard(number).await?;
        Ok(Some(letter))
    }

    /// Writes the audit row of a decision, once for each time that the letter was parked. If a
    /// crash follows, repeating the call finishes the decision.
    async fn note(&self, letter: &DeadLetter, verb: &str, by: &Attribution) -> Result<(), OperationError> {
        let DeadLetter { number, claims, topic, id, attempts, error, parked_at, .. } = letter;
        let change = Change {
            action: format!("dead_letter.{verb}").parse()?,
            subject: format!("dead_letter/{number}").parse()?,
            detail: json!({ "topic": topic, "job": id, "attempts": attempts, "error": error }),
        };
        // A new queue file starts numbering again, so the event name has the time as well.
        let event = format!("dead_letter/{number}/{claims}/{}/{verb}", parked_at.as_millis()).parse()?;
        self.catalogue.record(&event, change, by).await?;
        Ok(())
    }
}
