//! Random sequences of steps, compared with the specification after every step.

use std::{cell::Cell, fmt::Debug, sync::Arc, time::Duration};

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;

use super::{BEGIN, Options, QueueFactory, QueueUnderTest};
use crate::{
    domain::Timestamp,
    queue::{Claim, JobNumber, NewJob, QueueError, QueueStateMachine, Settlement, Topic, Verdict},
};

pub(super) const NAME: &str = "random_sequences::random_steps";

/// A step. It picks its job or claim when it runs, so a sequence stays meaningful while it shrinks.
#[derive(Clone, Debug)]
enum Step {
    Put(Vec<(u8, u8, u16)>),
    Claim { topic: u8, limit: u8, lease_ms: u16 },
    Settle(Vec<(u8, Ending)>),
    Replay(u8),
    Discard(u8),
    Page { after: u8, limit: u8 },
    Wait(u16),
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Done,
    Retry(u16),
    Postpone(u16),
    Park,
}

fn steps() -> impl Strategy<Value = Step> {
    let ending = || {
        prop_oneof![
            2 => proptest::strategy::Just(Ending::Done),
            2 => (0..2_000_u16).prop_map(Ending::Retry),
            1 => (0..2_000_u16).prop_map(Ending::Postpone),
            3 => proptest::strategy::Just(Ending::Park),
        ]
    };
    prop_oneof![
        4 => vec((0..2_u8, 0..6_u8, 0..1_500_u16), 1..5).prop_map(Step::Put),
        5 => (0..2_u8, 0..5_u8, 0..2_000_u16).prop_map(|(topic, limit, lease_ms)| Step::Claim { topic, limit, lease_ms }),
        5 => vec((any::<u8>(), ending()), 1..4).prop_map(Step::Settle),
        2 => any::<u8>().prop_map(Step::Replay),
        2 => any::<u8>().prop_map(Step::Discard),
        1 => (any::<u8>(), 0..4_u8).prop_map(|(after, limit)| Step::Page { after, limit }),
        4 => (0..2_500_u16).prop_map(Step::Wait),
        1 => proptest::strategy::Just(Step::Restart),
    ]
}

/// Runs random sequences and shrinks the first that fails. Returns the number of steps taken.
pub(super) fn explore(
    factory: &Arc<dyn QueueFactory>,
    options: &Options,
    runtime: &Runtime,
) -> (usize, Option<String>) {
    let config = Config {
        cases: options.sequences,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let seed: Vec<u8> = options.seed.to_le_bytes().repeat(4);
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let taken = Cell::new(0);
    let result = runner.run(&vec(steps(), 1..options.steps.max(2)), |steps| {
        runtime.block_on(async {
            let mut pair = Pair::new(factory.fresh(BEGIN).await);
            for (number, step) in steps.iter().enumerate() {
                taken.set(taken.get() + 1);
                let (expected, observed) = pair.take(step).await;
                if expected != observed {
                    let reason = format!("step {number} {step:?}: expected {expected}, observed {observed}");
                    return Err(TestCaseError::fail(reason));
                }
            }
            Ok(())
        })
    });
    (taken.get(), result.err().map(|error| error.to_string()))
}

/// The queue under test and its specification, at the same moment.
struct Pair {
    spec: QueueStateMachine,
    tested: QueueUnderTest,
    now: Timestamp,
    /// Every claim handed out so far, valid or not.
    claims: Vec<Claim>,
    numbers: u64,
}

impl Pair {
    fn new(tested: QueueUnderTest) -> Self {
        Self { spec: QueueStateMachine::default(), tested, now: BEGIN, claims: Vec::new(), numbers: 0 }
    }

    /// Takes a step on both sides. Returns both answers, with depths and dead letters afterwards.
    async fn take(&mut self, step: &Step) -> (String, String) {
        let (now, queue) = (self.now, Arc::clone(&self.tested.queue));
        let answers = match step {
            Step::Put(jobs) => {
                let jobs: Vec<_> =
                    jobs.iter().map(|(topic, id, delay)| self.job(*topic, *id, *delay)).collect();
                self.numbers += jobs.len() as u64;
                (text(Ok(self.spec.put(now, jobs.clone()))), text(queue.put(jobs).await))
            }
            Step::Claim { topic, limit, lease_ms } => {
                let lease = Duration::from_millis(u64::from(*lease_ms));
                let expected = self.spec.claim(now, &topic_of(*topic), usize::from(*limit), lease);
                let observed = queue.claim(&topic_of(*topic), usize::from(*limit), lease).await;
                self.claims.extend(expected.jobs.iter().map(|job| job.claim));
                (text(Ok(expected)), text(observed))
            }
            Step::Settle(endings) => {
                let settlements: Vec<_> =
                    endings.iter().filter_map(|(which, ending)| self.settlement(*which, *ending)).collect();
                (text(Ok(self.spec.settle(now, settlements.clone()))), text(queue.settle(settlements).await))
            }
            Step::Replay(which) => {
                let number = self.number(*which);
                (text(Ok(self.spec.replay(now, number))), text(queue.replay(number).await))
            }
            Step::Discard(which) => {
                let number = self.number(*which);
                (text(Ok(self.spec.discard(number))), text(queue.discard(number).await))
            }
            Step::Page { after, limit } => {
                let (after, limit) = (Some(self.number(*after)), usize::from(*limit));
                (text(Ok(self.spec.dead_letters(after, limit))), text(queue.dead_letters(after, limit).await))
            }
            Step::Wait(millis) => {
                self.now = now.after(Duration::from_millis(u64::from(*millis)));
                self.tested.probe.set_time(self.now).await;
                (String::new(), String::new())
            }
            Step::Restart => {
                if let Some(again) = self.tested.probe.restart().await {
                    self.tested = again;
                }
                (String::new(), String::new())
            }
        };
        let queue = &self.tested.queue;
        let shown = (text(queue.depths().await), text(queue.dead_letters(None, 100).await));
        let expected = (text(Ok(self.spec.depths())), text(Ok(self.spec.dead_letters(None, 100))));
        (format!("{} then {expected:?}", answers.0), format!("{} then {shown:?}", answers.1))
    }

    fn job(&self, topic: u8, id: u8, delay: u16) -> NewJob {
        let ready_at = self.now.after(Duration::from_millis(u64::from(delay)));
        let id = format!("job {id}");
        // The content differs each time: a job that exists keeps its own.
        NewJob::at(ready_at, &topic_of(topic), &id, &delay).expect("valid job")
    }

    fn settlement(&self, which: u8, ending: Ending) -> Option<Settlement> {
        let claim = *self.claims.get(usize::from(which).checked_rem(self.claims.len())?)?;
        let span = |millis| Duration::from_millis(u64::from(millis));
        let verdict = match ending {
            Ending::Done => Verdict::Done,
            Ending::Retry(wait) => {
                Verdict::Retry { wait: span(wait), error: "it did not work 不行".to_owned() }
            }
            Ending::Postpone(wait) => Verdict::Postpone { wait: span(wait) },
            Ending::Park => Verdict::Park { error: "e".repeat(1_200) },
        };
        Some(Settlement { claim, verdict })
    }

    fn number(&self, which: u8) -> JobNumber {
        JobNumber(u64::from(which) % (self.numbers + 2))
    }
}

fn topic_of(topic: u8) -> Topic {
    ["letters", "letters/late"][usize::from(topic) % 2].parse().expect("valid topic")
}

/// Formats an answer. Answers of the specification are always `Ok`.
fn text<T: Debug>(answer: Result<T, QueueError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("error: {error}"),
    }
}
