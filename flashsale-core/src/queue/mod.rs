//! Job queues: work that runs now or later, and is retried until it succeeds.
//!
//! 1. [`Queue::put`] stores a job under a topic and an id.
//! 2. A [`Worker`] claims ready jobs. A claim is a lease: until it ends, nobody else gets the job.
//! 3. The worker runs the job and settles the claim with a [`Verdict`].
//! 4. If the worker dies or hangs, the lease ends and the job is ready again. Once it is claimed
//!    again, the old claim is void. Jobs run *at least* once and must tolerate repetition.
//! 5. A job that cannot be done becomes a *dead letter*, which an operator replays or discards.
//!
//! [`InMemoryQueue`] is for jobs that are recorded elsewhere,
//! [`EmbeddedQueue`](crate::embedded::EmbeddedQueue) for all others. The conformance suite (feature
//! `conformance`) compares both with [`QueueStateMachine`] step by step.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use std::{sync::Arc, time::Duration};
//!
//! use flashsale_core::{
//!     domain::SystemClock,
//!     queue::{InMemoryQueue, Job, NewJob, Queue, RetryPolicy, Topic, Verdict, Worker},
//! };
//!
//! let topic: Topic = "letters".parse()?;
//! let queue = Arc::new(InMemoryQueue::new(Arc::new(SystemClock)));
//! queue.put(vec![NewJob::now(&topic, "letter/1", &"to Chen")?]).await?;
//!
//! let worker = Worker::new(Arc::clone(&queue) as _, topic, RetryPolicy::default(), |job: Job| async move {
//!     match job.content::<String>() {
//!         Ok(_address) => Verdict::Done,
//!         Err(error) => Verdict::Park { error: error.to_string() },
//!     }
//! });
//! assert_eq!(worker.work_once().await?, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod in_memory;
pub(crate) mod job;
mod queue;
mod retry_policy;
mod state_machine;
mod worker;

pub use queue::Queue;

pub use error::QueueError;
pub use in_memory::InMemoryQueue;
pub use job::{
    Claim, Claimed, DeadLetter, Depth, Job, JobNumber, MAX_BATCH, MAX_CONTENT_BYTES, NewJob, Put, Settlement,
    Topic, Verdict,
};
pub use retry_policy::RetryPolicy;
pub use state_machine::QueueStateMachine;
pub use worker::{Counts, Worker};
