//! What every queue has to pass: scenarios with their expectations, and random sequences compared with the
//! [specification](crate::queue::QueueSpec).

mod machine;
mod scenarios;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Instant};

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};

use super::{Options, Played, Report, failure::elsewhere, run::guarded};
use crate::{domain::Timestamp, queue::Queue};

/// Makes queues of one backend for the suite.
#[async_trait]
pub trait QueueFactory: Send + Sync {
    /// What reports call the backend.
    fn name(&self) -> String;

    /// Makes a queue without any content. Its time is `now`.
    ///
    /// A panic fails the case that asked for it.
    async fn fresh(&self, now: Timestamp) -> QueueUnderTest;
}

/// A queue under test.
#[derive(Clone)]
pub struct QueueUnderTest {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// What tests may do with it and users may not.
    pub probe: Arc<dyn QueueTestControl>,
}

impl fmt::Debug for QueueUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

/// What tests may do with a queue and users may not.
#[async_trait]
pub trait QueueTestControl: Send + Sync {
    /// Sets the queue's time. The suite lives in the year 2100 and moves forwards only, so a backend that reads a real clock
    /// can add what is missing.
    async fn set_time(&self, now: Timestamp);

    /// Opens the queue anew on what a crash at this moment would leave; the old one is not used any more. `None` if there
    /// is nothing to open, since it was never meant to last.
    async fn restart(&self) -> Option<QueueUnderTest>;
}

/// The time at which every case begins: 2100-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(4_102_444_800_000);

type Playing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A case that panics when something is not as it should be.
struct Scenario {
    name: &'static str,
    play: fn(QueueUnderTest, Options) -> Playing,
}

/// Plays every case on a queue, and prints a line for each.
///
/// # Panics
/// If a case fails, after all were played, or inside of a tokio runtime: the suite brings its own.
pub fn run_queue(factory: &Arc<dyn QueueFactory>, options: &Options) {
    let report = examine_queue(factory, options);
    println!("{report}");
    assert!(report.failures().next().is_none(), "{} does not conform, see above", report.backend);
}

/// Plays every case on a queue and reports what came of it.
///
/// # Panics
/// Inside of a tokio runtime: the suite brings its own.
pub fn examine_queue(factory: &Arc<dyn QueueFactory>, options: &Options) -> Report {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime: Runtime = runtime.expect("the operating system has threads to give");
    let began = Instant::now();
    let mut report = Report::begin(factory.name(), options);
    for story in scenarios::SCENARIOS {
        if report.is_over(options) || !options.selects(story.name) {
            continue;
        }
        let began = Instant::now();
        let (factory, options) = (Arc::clone(factory), options.clone());
        let failure = runtime.block_on(async {
            let playing = async {
                (story.play)(factory.fresh(BEGIN).await, options.clone()).await;
                Ok(())
            };
            guarded(&options, playing).await.err()
        });
        let case = format!("queue {}", story.name);
        report.add(Played { case, steps: 1, seed: options.seed, took: began.elapsed(), failure });
    }
    for seed in (options.seed..).take(usize::try_from(options.seeds).unwrap_or(usize::MAX)) {
        if report.is_over(options) || !options.selects(machine::NAME) {
            break;
        }
        let began = Instant::now();
        let options = Options { seed, ..options.clone() };
        let (steps, failure) = machine::explore(factory, &options, &runtime);
        let failure = failure.map(|reason| elsewhere("what the specification does", reason));
        let case = format!("queue {}", machine::NAME);
        report.add(Played { case, steps, seed, took: began.elapsed(), failure });
    }
    report.took = began.elapsed();
    runtime.shutdown_background();
    report
}
