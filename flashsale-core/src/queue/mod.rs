//! Queues of jobs: what has to be done once, now or at a time, and again until it works.
//!
//! A [`Queue`] keeps jobs; a [`Worker`] takes those that are due and does them. A job is done *at least* once: whoever does it
//! has to bear a repetition. One that cannot be done is parked as a *dead letter*, which an operator looks at, replays or
//! discards.
//!
//! Two queues live in the process: [`InMemoryQueue`] for jobs that something else remembers, and
//! [`EmbeddedQueue`](crate::embedded::EmbeddedQueue) for jobs
//! that nothing else does. Both have to pass the conformance suite (feature `conformance`), which compares them with the
//! [specification](QueueSpec) step by step.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use std::{sync::Arc, time::Duration};
//!
//! use flashsale_core::{
//!     domain::SystemClock,
//!     queue::{InMemoryQueue, Job, NewJob, Queue, Retries, Topic, Verdict, Worker},
//! };
//!
//! let topic: Topic = "letters".parse()?;
//! let queue = Arc::new(InMemoryQueue::new(Arc::new(SystemClock)));
//! queue.put(vec![NewJob::now(&topic, "letter/1", &"to Chen")?]).await?;
//!
//! let worker = Worker::new(Arc::clone(&queue) as _, topic, Retries::default(), |job: Job| async move {
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
mod spec;
mod worker;

pub use queue::Queue;

pub use error::QueueError;
pub use in_memory::InMemoryQueue;
pub use job::{
    Claim, Claimed, DeadLetter, Depth, Job, JobNumber, MAX_BATCH, MAX_CONTENT_BYTES, NewJob, Put, Settlement,
    Topic, Verdict,
};
pub use spec::QueueSpec;
pub use worker::{Counts, Retries, Worker};
