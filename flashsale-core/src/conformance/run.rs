//! Runs the cases and reports the results.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    CASES, Factory, Options,
    case::{Case, Needs},
    failure::{Failure, case_failure},
    model::Model,
    random_sequences,
    scene::Scene,
};
use crate::{ledger::LedgerRole, panic_message::panic_message};

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the backend.
    pub backend: String,
    /// Every case that ran, in order.
    pub played: Vec<Played>,
    /// The number of seeds.
    pub seeds: u64,
    /// The duration of the run.
    pub took: Duration,
}

/// The result of one case.
#[derive(Clone, Debug)]
pub struct Played {
    /// Role and name, such as `single limits::a_limit_counts_unpaid_orders`.
    pub case: String,
    /// The number of steps taken.
    pub steps: usize,
    /// The seed.
    pub seed: u64,
    /// The duration of the case.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// Runs every case that applies to a backend and prints a line for each.
///
/// # Panics
/// After the last case if one failed; inside a tokio runtime, since the suite starts its own.
pub fn run(factory: &Arc<dyn Factory>, options: &Options) {
    let report = examine(factory, options);
    println!("{report}");
    assert!(report.failures().next().is_none(), "{} does not conform, see above", report.backend);
}

/// Runs every case that applies to a backend, prints a line for each, and returns the results.
///
/// # Panics
/// If called inside a tokio runtime, since the suite starts its own.
pub fn examine(factory: &Arc<dyn Factory>, options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("failed to start worker threads");
    let began = Instant::now();
    let mut report = Report::begin(factory.name(), options);
    for role in factory.roles() {
        for case in CASES.iter().copied().flatten().filter(|case| suits(case, role, factory.max_buckets())) {
            if report.is_over(options) || !options.selects(&case.name()) {
                continue;
            }
            let played = runtime.block_on(play(Arc::clone(factory), role, case, options.clone()));
            report.add(played);
        }
        for seed in (options.seed..).take(usize::try_from(options.seeds).unwrap_or(usize::MAX)) {
            let options = Options { seed, ..options.clone() };
            for scenario in random_sequences::SCENARIOS
                .iter()
                .filter(|scenario| scenario.suits(role, factory.max_buckets()))
            {
                if report.is_over(&options) || !options.selects(scenario.name) {
                    continue;
                }
                let began = Instant::now();
                let (steps, failure) = scenario.run(factory, role, &options, &runtime);
                let case = format!("{} {}", of_role(role), scenario.name);
                report.add(Played { case, steps, seed, took: began.elapsed(), failure });
            }
        }
    }
    report.took = began.elapsed();
    // Do not wait for a ledger that hangs.
    runtime.shutdown_background();
    report
}

impl Options {
    pub(super) fn selects(&self, name: &str) -> bool {
        let excepted = self.except.iter().any(|except| name.contains(except));
        !excepted && self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

impl Report {
    /// Returns the cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Played> {
        self.played.iter().filter(|played| played.failure.is_some())
    }

    pub(super) fn begin(backend: String, options: &Options) -> Self {
        Self { backend, played: Vec::new(), seeds: options.seeds, took: Duration::ZERO }
    }

    pub(super) fn is_over(&self, options: &Options) -> bool {
        options.stop_at_failure && self.failures().next().is_some()
    }

    pub(super) fn add(&mut self, played: Played) {
        println!("{played}");
        self.played.push(played);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: usize = self.played.iter().map(|played| played.steps).sum();
        write!(
            f,
            "conformance of {}: {} cases, {} failed, {steps} steps, {} seeds, {:.1} s",
            self.backend,
            self.played.len(),
            self.failures().count(),
            self.seeds,
            self.took.as_secs_f64()
        )
    }
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.failure.is_some() { "FAIL" } else { "ok  " };
        write!(f, "{result} {:6} steps {:7.1} ms  {}", self.steps, self.took.as_secs_f64() * 1e3, self.case)?;
        let Some(failure) = &self.failure else { return Ok(()) };
        let name = self.case.split_once(' ').map_or(self.case.as_str(), |(_, name)| name);
        write!(f, "\n{failure}\n    seed      {}", self.seed)?;
        write!(f, "\n    again     FLASHSALE_TEST_CASE={name} FLASHSALE_TEST_SEED={}", self.seed)
    }
}

fn suits(case: &Case, role: LedgerRole, max_buckets: u16) -> bool {
    match case.needs {
        Needs::Deciding => role != LedgerRole::Gate,
        Needs::Buckets => role == LedgerRole::Single && max_buckets >= 4,
        Needs::Gate => role == LedgerRole::Gate,
        Needs::Truth => role == LedgerRole::Truth,
    }
}

pub(super) fn of_role(role: LedgerRole) -> &'static str {
    match role {
        LedgerRole::Single => "single",
        LedgerRole::Gate => "gate",
        LedgerRole::Truth => "truth",
    }
}

async fn play(factory: Arc<dyn Factory>, role: LedgerRole, case: &Case, options: Options) -> Played {
    let began = Instant::now();
    let subject = guarded(&options, async { Ok(factory.fresh(role).await) }).await;
    let (steps, failure) = match subject {
        Err(failure) => (0, Some(failure)),
        Ok(subject) => {
            let mut scene = Scene::new(subject, role, &options);
            scene.other = match case.needs {
                Needs::Gate => Some(Model::subject(LedgerRole::Truth)),
                Needs::Truth => Some(Model::subject(LedgerRole::Gate)),
                Needs::Deciding | Needs::Buckets => None,
            };
            let failure = guarded(&options, (case.play)(&mut scene)).await.err();
            // A panic or a timeout does not know its step, but the scene does.
            let failure = failure.map(|failure| match failure.step {
                0 => scene.failure(&failure.expected, failure.observed),
                _ => failure,
            });
            (scene.steps(), failure)
        }
    };
    let case = format!("{} {}", of_role(role), case.name());
    Played { case, steps, seed: options.seed, took: began.elapsed(), failure }
}

/// Runs a case; a panic or a timeout is a failure.
pub(super) async fn guarded<T>(
    options: &Options,
    case: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut case = Box::pin(case);
    let caught = std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| case.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(case_failure("no panic", panic_message(panic.as_ref())))),
        }
    });
    match tokio::time::timeout(options.patience, caught).await {
        Ok(result) => result,
        Err(_) => Err(case_failure("the case ends", format!("timeout after {:?}", options.patience))),
    }
}
