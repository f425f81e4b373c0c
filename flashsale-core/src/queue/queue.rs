//! The contract of queues.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use super::{Claimed, DeadLetter, Depth, JobNumber, NewJob, Put, QueueError, Settlement, Topic};

/// Keeps jobs until they are done. For users there is the [`Worker`](super::Worker).
///
/// Each call is one atomic step: it happens whole or not at all. After an error that is not
/// [definite](QueueError::is_definite), and after a dropped future, the caller does not know which, and repeats the call;
/// what that means is said with each.
///
/// All times are those of the queue's own clock. If it steps back, jobs come later by as much; none is lost.
#[async_trait]
pub trait Queue: Send + Sync + Debug {
    /// Puts jobs in. A job whose topic and id are there already, waiting, claimed or parked, is left as it is; one that was
    /// done or discarded is a new one.
    ///
    /// A repetition finds the jobs there, or puts those in again that were done meanwhile.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<Put>, QueueError>;

    /// Hands out up to `limit` jobs of a topic that are ready, the longest ready first, then in the order in which they
    /// were put. Each belongs to the caller for `lease`, and is ready again afterwards.
    ///
    /// After a lost answer the jobs come back when the lease has ended; each handing out counts as an attempt.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn claim(&self, topic: &Topic, limit: usize, lease: Duration) -> Result<Claimed, QueueError>;

    /// Ends claims, each as its verdict says, and tells for each whether it was still valid. A claim that is not (the
    /// lease ended and somebody else has claimed the job, or it is gone) changes nothing.
    ///
    /// A repetition finds the claims ended: it answers `false` for what the first call did.
    ///
    /// # Errors
    /// Too many for one call; unavailable; unknown; damaged.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, QueueError>;

    /// Dead letters of all topics, by their numbers, from the one after `after`: at most `limit`, and at most
    /// [`MAX_BATCH`](super::MAX_BATCH).
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn dead_letters(
        &self,
        after: Option<JobNumber>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError>;

    /// One dead letter; `None` if no job with this number is parked.
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn dead_letter(&self, number: JobNumber) -> Result<Option<DeadLetter>, QueueError>;

    /// Makes a dead letter a job again, ready now and with no attempts; `false` if no job with this number is parked.
    ///
    /// A repetition answers `false` for what the first call did, unless the job was parked again meanwhile: then it is
    /// replayed once more.
    ///
    /// # Errors
    /// Unavailable; unknown; damaged.
    async fn replay(&self, number: JobNumber) -> Result<bool, QueueError>;

    /// Removes a dead letter for good; `false` if no job with this number is parked.
    ///
    /// # Errors
    /// Unavailable; unknown; damaged.
    async fn discard(&self, number: JobNumber) -> Result<bool, QueueError>;

    /// How much there is of each topic that ever had a job, by topic. Costs the same however many jobs there are.
    ///
    /// # Errors
    /// Unavailable; damaged.
    async fn depths(&self) -> Result<Vec<Depth>, QueueError>;
}
