//! Random sequences of operations, compared with the specification after every operation.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
};

use proptest::{
    strategy::BoxedStrategy,
    test_runner::{
        Config, FailurePersistence, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng,
        TestRunner,
    },
};
use proptest_state_machine::ReferenceStateMachine;

use super::{
    Factory, Failure, Options,
    failure::case_failure,
    model::Model,
    perform::{History, System},
    random_operation::{Op, Setup, operations, setups},
};
use crate::{
    ledger::{
        LedgerRole,
        invariants::{self, OwedUnits},
    },
    panic_message::panic_message,
};

/// A kind of random sequence.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    kind: Kind,
}

/// Every kind of random sequence.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "random_sequences::random_steps_over_one_bucket", kind: Kind::OneBucket },
    Scenario { name: "random_sequences::random_steps_over_several_buckets", kind: Kind::SeveralBuckets },
    Scenario { name: "random_sequences::random_steps_over_two_tiers", kind: Kind::TwoTiers },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OneBucket,
    SeveralBuckets,
    TwoTiers,
}

impl Scenario {
    pub(super) fn suits(&self, role: LedgerRole, max_buckets: u16) -> bool {
        match self.kind {
            Kind::OneBucket => role != LedgerRole::Gate,
            Kind::SeveralBuckets => role == LedgerRole::Single && max_buckets >= MOST_BUCKETS,
            Kind::TwoTiers => role != LedgerRole::Single,
        }
    }

    /// Runs random sequences and shrinks the first that fails. Returns the number of steps taken.
    pub(super) fn run(
        &self,
        factory: &Arc<dyn Factory>,
        role: LedgerRole,
        options: &Options,
        runtime: &tokio::runtime::Runtime,
    ) -> (usize, Option<Failure>) {
        let world = World { factory: Arc::clone(factory), role, runtime, steps: Cell::new(0) };
        let failure = match self.kind {
            Kind::OneBucket => world.explore::<Sequences<1, false>>(options, false),
            Kind::SeveralBuckets => world.explore::<Sequences<MOST_BUCKETS, false>>(options, false),
            Kind::TwoTiers => world.explore::<Sequences<MOST_BUCKETS, true>>(options, true),
        };
        (world.steps.get(), failure)
    }
}

/// The maximum number of buckets of a random sale.
const MOST_BUCKETS: u16 = 3;

/// Generates sales of at most `BUCKETS` buckets and operations on them. The state is only the sale:
/// operations pick their orders when they run, so a sequence stays meaningful while it shrinks.
struct Sequences<const BUCKETS: u16, const TIERS: bool>;

impl<const BUCKETS: u16, const TIERS: bool> ReferenceStateMachine for Sequences<BUCKETS, TIERS> {
    type State = Setup;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Setup> {
        let least = if BUCKETS > 1 && !TIERS { 2 } else { 1 };
        setups(least..=BUCKETS)
    }

    fn transitions(setup: &Setup) -> BoxedStrategy<Op> {
        operations(setup, TIERS)
    }

    fn apply(setup: Setup, _: &Op) -> Setup {
        setup
    }
}

struct World<'a> {
    factory: Arc<dyn Factory>,
    role: LedgerRole,
    runtime: &'a tokio::runtime::Runtime,
    steps: Cell<usize>,
}

impl World<'_> {
    fn explore<M>(&self, options: &Options, tiers: bool) -> Option<Failure>
    where
        M: ReferenceStateMachine<State = Setup, Transition = Op>,
    {
        let config = Config {
            cases: options.sequences,
            failure_persistence: options
                .regressions
                .map(|file| Box::new(FileFailurePersistence::Direct(file)) as Box<dyn FailurePersistence>),
            max_shrink_iters: 2_000,
            max_shrink_time: 20_000,
            ..Config::default()
        };
        let seed: Vec<u8> = options.seed.to_le_bytes().repeat(4);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let strategy = M::sequential_strategy(1..options.steps.max(2));
        let result = runner.run(&strategy, |(setup, ops, seen)| {
            let count = || {
                self.steps.set(self.steps.get() + 1);
                if let Some(seen) = &seen {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            };
            let played = self.runtime.block_on(self.play(&setup, &ops, tiers, &count));
            played.map_err(|failure| TestCaseError::fail(failure.to_string()))
        });
        match result {
            Ok(()) => None,
            Err(TestError::Abort(reason)) => {
                Some(case_failure("sequences can be generated", reason.to_string()))
            }
            Err(TestError::Fail(reason, (setup, ops, _))) => {
                Some(self.explain(&setup, &ops, tiers, &reason.to_string()))
            }
        }
    }

    /// Runs the shortest failing sequence once more, for a failure that lists its steps.
    fn explain(&self, setup: &Setup, ops: &[Op], tiers: bool, reason: &str) -> Failure {
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.runtime.block_on(self.play(setup, ops, tiers, &|| {}))
        }));
        let mut failure = match again {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => case_failure("the sequence fails every time", format!("failed once: {reason}")),
            Err(panic) => case_failure("no panic", panic_message(panic.as_ref())),
        };
        failure.before =
            std::iter::once(format!("{setup:?}")).chain(ops.iter().map(|op| format!("{op:?}"))).collect();
        failure
    }

    /// Makes the oracle and the system under test. The tier that is not under test is a [`Model`].
    async fn sides(&self, tiers: bool) -> (System, System) {
        let subject = self.factory.fresh(self.role).await;
        if !tiers {
            let oracle = Model::subject(self.role);
            return (System { main: oracle, truth: None }, System { main: subject, truth: None });
        }
        let oracle =
            System { main: Model::subject(LedgerRole::Gate), truth: Some(Model::subject(LedgerRole::Truth)) };
        let tested = match self.role {
            LedgerRole::Gate => System { main: subject, truth: Some(Model::subject(LedgerRole::Truth)) },
            LedgerRole::Single | LedgerRole::Truth => {
                System { main: Model::subject(LedgerRole::Gate), truth: Some(subject) }
            }
        };
        (oracle, tested)
    }

    async fn play(&self, setup: &Setup, ops: &[Op], tiers: bool, count: &dyn Fn()) -> Result<(), Failure> {
        let (mut oracle, mut tested) = self.sides(tiers).await;
        let mut past = History::new(setup, if tiers { LedgerRole::Gate } else { self.role });
        let fail = |step: usize, expected: String, observed: String| Failure {
            step,
            did: step
                .checked_sub(1)
                .and_then(|index| ops.get(index))
                .map_or("open".into(), |op| format!("{op:?}")),
            expected,
            observed,
            before: Vec::new(),
        };
        for side in [&oracle, &tested] {
            side.begin(&past).await.map_err(|error| fail(0, "an open sale".into(), error.to_string()))?;
        }
        for (step, op) in (1..).zip(ops) {
            count();
            let expected = oracle.perform(op, &past).await;
            let observed = tested.perform(op, &past).await;
            if expected.text != observed.text {
                return Err(fail(step, expected.text, observed.text));
            }
            past.learn(op, expected);
            self.check(&oracle, &tested, &past).await.map_err(|(what, seen)| fail(step, what, seen))?;
        }
        for side in [&oracle, &tested] {
            let differences = side.differences(&past).await;
            let differences =
                differences.map_err(|error| fail(ops.len(), "settled tiers".into(), error.to_string()))?;
            if !differences.is_empty() {
                return Err(fail(ops.len(), "gate and truth agree at rest".into(), differences.join("; ")));
            }
        }
        self.check(&oracle, &tested, &past).await.map_err(|(what, seen)| fail(ops.len(), what, seen))
    }

    /// Checks the invariants of the tested system, and that it stores what the oracle stores.
    async fn check(&self, oracle: &System, tested: &System, past: &History) -> Result<(), (String, String)> {
        let (expected, observed) = (oracle.inspect(past).await, tested.inspect(past).await);
        for (index, inspection) in observed.iter().enumerate() {
            let gate = tested.truth.is_some() && index == 0;
            let owing = if gate { OwedUnits::Allowed } else { OwedUnits::Forbidden };
            let broken = inspection.iter().flat_map(|inspection| invariants::check(inspection, owing));
            let broken: Vec<_> = broken.map(|violation| violation.to_string()).collect();
            if !broken.is_empty() {
                return Err(("the invariants hold".to_owned(), broken.join("; ")));
            }
        }
        if expected == observed {
            return Ok(());
        }
        Err((format!("stored: {expected:?}"), format!("{observed:?}")))
    }
}
