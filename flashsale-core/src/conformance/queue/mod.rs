//! The tests that every queue must pass: scenarios with hand-written expectations, and random
//! sequences compared with the [specification](crate::queue::QueueStateMachine).

mod random_sequences;
mod scenarios;

use std::{fmt, sync::Arc, time::Instant};

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};

use super::{
    Options, Played, Report,
    failure::case_failure,
    small_suite::{self, BEGIN},
};
use crate::{domain::Timestamp, queue::Queue};

/// Makes queues of one backend for the suite. Each scenario and each random sequence gets its own.
#[async_trait]
pub trait QueueFactory: Send + Sync {
    /// The backend's name in reports.
    fn name(&self) -> String;

    /// Makes an empty queue that shares nothing with any other. Its clock shows `now`.
    ///
    /// A panic fails the case.
    async fn fresh(&self, now: Timestamp) -> QueueUnderTest;
}

/// A queue under test.
#[derive(Clone)]
pub struct QueueUnderTest {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Test-only access to the queue.
    pub probe: Arc<dyn QueueTestControl>,
}

impl fmt::Debug for QueueUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

/// Test-only access to a queue.
#[async_trait]
pub trait QueueTestControl: Send + Sync {
    /// Sets the queue's clock to `now`, a moment in the year 2100 that never goes back. A backend
    /// with a real clock can add an offset.
    async fn set_time(&self, now: Timestamp);

    /// Simulates a crash at this moment: opens a new queue from what is durable. The old queue is
    /// not used again. Returns `None` if the queue is not durable.
    async fn restart(&self) -> Option<QueueUnderTest>;
}

/// Runs every case on a backend's queues and prints a line for each.
///
/// # Panics
/// After the last case if one failed; inside a tokio runtime, since the suite starts its own.
pub fn run_queue(factory: &Arc<dyn QueueFactory>, options: &Options) {
    let report = examine_queue(factory, options);
    println!("{report}");
    assert!(report.failures().next().is_none(), "{} does not conform, see above", report.backend);
}

/// Runs every case on a backend's queues, prints a line for each, and returns the results.
///
/// # Panics
/// If called inside a tokio runtime, since the suite starts its own.
pub fn examine_queue(factory: &Arc<dyn QueueFactory>, options: &Options) -> Report {
    let fresh = || -> small_suite::Playing<'static, _> {
        let factory = Arc::clone(factory);
        Box::pin(async move { factory.fresh(BEGIN).await })
    };
    let began = Instant::now();
    let mut report = small_suite::examine("queue", factory.name(), &[scenarios::SCENARIOS], fresh, options);
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime: Runtime = runtime.expect("failed to start worker threads");
    for seed in (options.seed..).take(usize::try_from(options.seeds).unwrap_or(usize::MAX)) {
        if report.is_over(options) || !options.selects(random_sequences::NAME) {
            break;
        }
        let began = Instant::now();
        let options = Options { seed, ..options.clone() };
        let (steps, failure) = random_sequences::explore(factory, &options, &runtime);
        let failure = failure.map(|reason| case_failure("the specification's answers", reason));
        let case = format!("queue {}", random_sequences::NAME);
        report.add(Played { case, steps, seed, took: began.elapsed(), failure });
    }
    report.took = began.elapsed();
    runtime.shutdown_background();
    report
}
