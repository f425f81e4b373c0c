//! The contract of queues.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::{Claimed, DeadLetter, Depth, JobNumber, NewJob, Put, QueueError, Settlement, Topic};

/// Stores jobs until they are done. To run jobs, use a [`Worker`](super::Worker).
///
/// Each call is atomic. After an error that is not [definite](QueueError::is_definite), or if its
/// future was dropped, the outcome is unknown: repeat the call. Each method says what that does.
/// Times are those of the queue's clock. If it steps back, jobs are late but not lost.
#[async_trait]
pub trait Queue: Send + Sync + Debug {
    /// Queues jobs. A job whose topic and id are already queued, claimed or parked is left
    /// unchanged; one that was done or discarded is added again.
    ///
    /// A repetition leaves the jobs unchanged, or adds those again that were done in the meantime.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<Put>, QueueError>;

    /// Claims up to `limit` ready jobs of a topic: those ready for the longest first, then in the
    /// order of queueing. Each belongs to the caller for the time `lease`, and is then ready again.
    /// So are jobs whose answer was lost. Each claim counts as an attempt.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn claim(&self, topic: &Topic, limit: usize, lease: Duration) -> Result<Claimed, QueueError>;

    /// Settles claims with their verdicts. Returns for each whether it was valid. An invalid claim,
    /// whose job is gone, already settled or claimed again after the lease ended, is ignored.
    ///
    /// A repetition returns `false` for claims that the first call settled.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, QueueError>;

    /// Lists dead letters of all topics by number, after `after`: at most `limit`, and at most
    /// [`MAX_BATCH`](super::MAX_BATCH).
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn dead_letters(
        &self,
        after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError>;

    /// Reads a dead letter; `None` if no job with this number is parked.
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, QueueError>;

    /// Makes a dead letter ready, with no attempts; `false` if no job with this number is parked.
    ///
    /// A repetition returns `false`, or replays the job again if it was parked again meanwhile.
    ///
    /// # Errors
    /// Unavailable; unknown; damaged.
    async fn replay(&self, number: JobNumber) -> Result<bool, QueueError>;

    /// Deletes a dead letter for good; `false` if no job with this number is parked.
    ///
    /// # Errors
    /// Unavailable; unknown; damaged.
    async fn discard(&self, number: JobNumber) -> Result<bool, QueueError>;

    /// Counts jobs of every topic that ever had one, at a cost independent of the number of jobs.
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn depths(&self) -> Result<Vec<Depth>, QueueError>;
}
