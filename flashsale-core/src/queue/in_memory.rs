//! A queue in memory.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Claimed, DeadLetter, Depth, JobNumber, MAX_BATCH, NewJob, Put, Queue, QueueError, QueueStateMachine,
    Settlement, Topic,
};
use crate::domain::Clock;

/// A [`Queue`] in memory, for jobs that are recorded elsewhere and queued again after a restart.
#[derive(Debug)]
pub struct InMemoryQueue {
    content: Mutex<QueueStateMachine>,
    clock: Arc<dyn Clock>,
}

impl InMemoryQueue {
    /// Creates an empty queue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { content: Mutex::default(), clock }
    }

    fn content(&self) -> MutexGuard<'_, QueueStateMachine> {
        // Steps do not panic half-way, so a poisoned lock is no reason to stop all jobs.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Queue for InMemoryQueue {
    async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<Put>, QueueError> {
        QueueError::bound(jobs.len())?;
        Ok(self.content().put(self.clock.now(), jobs))
    }

    async fn claim(&self, topic: &Topic, limit: usize, lease: Duration) -> Result<Claimed, QueueError> {
        QueueError::bound(limit)?;
        Ok(self.content().claim(self.clock.now(), topic, limit, lease))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, QueueError> {
        QueueError::bound(settlements.len())?;
        Ok(self.content().settle(self.clock.now(), settlements))
    }

    async fn dead_letters(
        &self,
        after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.content().dead_letters(after, limit.min(MAX_BATCH)))
    }

    async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, QueueError> {
        Ok(self.content().dead_letter(number))
    }

    async fn replay(&self, number: JobNumber) -> Result<bool, QueueError> {
        Ok(self.content().replay(self.clock.now(), number))
    }

    async fn discard(&self, number: JobNumber) -> Result<bool, QueueError> {
        Ok(self.content().discard(number))
    }

    async fn depths(&self) -> Result<Vec<Depth>, QueueError> {
        Ok(self.content().depths())
    }
}
