//! What the suites of the smaller traits share: cases, their steps, and how they are run.

use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

use super::{
    Options, Played, Report,
    failure::{Failure, case_failure},
    run::guarded,
    scene::Check,
};
use crate::domain::Timestamp;

/// The time at which every case starts: 2100-01-01T00:00:00Z.
pub(super) const BEGIN: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// Returns the time `ms` after [`BEGIN`].
pub(super) fn at(ms: u64) -> Timestamp {
    BEGIN.after(Duration::from_millis(ms))
}

/// A future that plays a case or makes what it tests.
pub(super) type Playing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A named test of one behaviour of `S`.
pub(super) struct SmallCase<S> {
    pub(super) file: &'static str,
    pub(super) name: &'static str,
    /// Whether it takes random steps, and so is played as often as the options say.
    pub(super) is_random: bool,
    pub(super) play: for<'a> fn(S, &'a mut Steps) -> Playing<'a, Check>,
}

impl<S> SmallCase<S> {
    /// `file::name`.
    fn name(&self) -> String {
        format!("{}::{}", self.file.rsplit("::").next().unwrap_or(self.file), self.name)
    }
}

/// Lists the cases of a file. The compiler reports a case that is not listed as dead code.
macro_rules! small_cases {
    ($subject:ty; $($case:ident),+ $(,)?; random: $($random:ident),* $(,)?) => {
        /// The cases of this file.
        pub(super) const CASES: &[$crate::conformance::small_suite::SmallCase<$subject>] = &[
            $($crate::conformance::small_suite::SmallCase {
                file: module_path!(),
                name: stringify!($case),
                is_random: false,
                play: |subject, steps| Box::pin($case(subject, steps)),
            },)+
            $($crate::conformance::small_suite::SmallCase {
                file: module_path!(),
                name: stringify!($random),
                is_random: true,
                play: |subject, steps| Box::pin($random(subject, steps)),
            },)*
        ];
    };
}
pub(super) use small_cases;

/// The steps of a case, which a failure shows.
pub(super) struct Steps {
    pub(super) options: Options,
    pub(super) rng: fastrand::Rng,
    count: usize,
    trail: Vec<String>,
}

impl Steps {
    pub(super) fn new(options: &Options) -> Self {
        let rng = fastrand::Rng::with_seed(options.seed);
        Self { options: options.clone(), rng, count: 0, trail: Vec::new() }
    }

    /// Records the step that is taken next.
    pub(super) fn step(&mut self, did: impl Into<String>) {
        self.count += 1;
        self.trail.push(did.into());
    }

    /// Fails unless the two values are equal.
    pub(super) fn same<T: PartialEq + Debug>(&self, what: &str, expected: T, observed: T) -> Check {
        if expected == observed {
            return Ok(());
        }
        Err(self.failure(&format!("{what}: {expected:?}"), format!("{observed:?}")))
    }

    /// Fails unless the condition holds.
    pub(super) fn holds(&self, what: &str, holds: bool, observed: impl Debug) -> Check {
        if holds { Ok(()) } else { Err(self.failure(what, format!("{observed:?}"))) }
    }

    /// Returns the value; an error is a failure.
    pub(super) fn ok<T, E: std::error::Error>(&self, answer: Result<T, E>) -> Result<T, Failure> {
        answer.map_err(|error| self.failure("the call succeeds", format!("error: {error}")))
    }

    pub(super) fn failure(&self, expected: &str, observed: String) -> Failure {
        let Some((did, before)) = self.trail.split_last() else { return case_failure(expected, observed) };
        let (did, before) = (did.clone(), before.to_vec());
        Failure { step: self.count, did, expected: expected.to_owned(), observed, before }
    }
}

/// Plays every case on a fresh subject, prints a line for each, and returns the results.
///
/// Starts its own tokio runtime, so it panics inside one.
pub(super) fn examine<S>(
    suite: &str,
    backend: String,
    cases: &[&[SmallCase<S>]],
    fresh: impl Fn() -> Playing<'static, S>,
    options: &Options,
) -> Report {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("failed to start worker threads");
    let began = Instant::now();
    let mut report = Report::begin(backend, options);
    for case in cases.iter().copied().flatten() {
        let name = case.name();
        let (seeds, sequences) = if case.is_random { (options.seeds, options.sequences) } else { (1, 1) };
        for seed in (options.seed..).take(usize::try_from(seeds).unwrap_or(usize::MAX)) {
            if report.is_over(options) || !options.selects(&name) {
                continue;
            }
            let began = Instant::now();
            let mut steps = Steps::new(&Options { seed, ..options.clone() });
            let playing = async {
                for _ in 0..sequences {
                    // A failure shows the steps on its own subject.
                    steps.trail.clear();
                    (case.play)(fresh().await, &mut steps).await?;
                }
                Ok(())
            };
            let failure = runtime.block_on(guarded(options, playing)).err();
            // A panic or a timeout does not know its step.
            let failure = failure.map(|failure| match failure.step {
                0 => steps.failure(&failure.expected, failure.observed),
                _ => failure,
            });
            let case = format!("{suite} {name}");
            report.add(Played { case, steps: steps.count, seed, took: began.elapsed(), failure });
        }
    }
    report.took = began.elapsed();
    // Do not wait for a store that hangs.
    runtime.shutdown_background();
    report
}
