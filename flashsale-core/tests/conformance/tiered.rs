//! Two tiers as one ledger under test: each call settles before it returns, and returns orders as
//! the truth has them. `storms` tests faults between the tiers.

use std::sync::Arc;

use async_trait::async_trait;
use flashsale_core::{
    conformance::{Factory, Faults, LedgerUnderTest, Model, Pair, TestControl},
    domain::{ActivityId, Timestamp},
    ledger::{
        Answer, Bounds, Command, Lane, Ledger, LedgerCalls as _, LedgerError, LedgerRole, Outcome, Query,
        Reply, state_machine::Inspection,
    },
    tiered::{Tiered, TieredOptions},
};

/// Makes a runtime on which nobody has to wait until another node's patience is over.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("failed to start a runtime")
}

/// Makes two empty ledgers in memory for a storm.
pub(crate) fn pair() -> Pair {
    let (gate, truth) = (Model::new(LedgerRole::Gate), Model::new(LedgerRole::Truth));
    Pair {
        gate: gate.clone(),
        gate_store: gate,
        truth: truth.clone(),
        truth_store: truth,
        faults: Faults::new(0),
    }
}

/// Makes [`Tiered`] ledgers over a gate and a truth of one backend.
pub(crate) struct TwoTiers(pub(crate) Arc<dyn Factory>);

#[async_trait]
impl Factory for TwoTiers {
    fn name(&self) -> String {
        format!("two tiers of {}, settled", self.0.name())
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single]
    }

    /// A truth has one stock row per offer, so several buckets would differ from a single ledger's.
    fn max_buckets(&self) -> u16 {
        1
    }

    async fn fresh(&self, _: LedgerRole) -> LedgerUnderTest {
        let gate = self.0.fresh(LedgerRole::Gate).await;
        let truth = self.0.fresh(LedgerRole::Truth).await;
        let tiered =
            Tiered::new(Arc::clone(&gate.ledger), Arc::clone(&truth.ledger), TieredOptions::default());
        let settled = Arc::new(Settled { tiered, gate, truth });
        LedgerUnderTest { ledger: Arc::clone(&settled) as _, probe: settled }
    }
}

/// Two tiers that settle after each call.
#[derive(Debug)]
struct Settled {
    tiered: Tiered,
    gate: LedgerUnderTest,
    truth: LedgerUnderTest,
}

impl Settled {
    async fn settled<T>(
        &self,
        activity: ActivityId,
        answer: Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        match self.tiered.settle(activity).await {
            Ok(()) | Err(LedgerError::NotOpen) => answer,
            Err(error) => panic!("the tiers failed to settle: {error}"),
        }
    }
}

#[async_trait]
impl TestControl for Settled {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.truth.probe.inspect(activity).await
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        self.gate.probe.advance_time(lane, to).await;
        self.truth.probe.advance_time(lane, to).await;
    }

    async fn settle(&self) {
        for activity in self.truth.ledger.activities().await.expect("`activities` succeeds") {
            self.settled(activity, Ok(())).await.expect("settling succeeds");
        }
    }

    async fn restart(&self) -> Option<LedgerUnderTest> {
        None
    }
}

#[async_trait]
impl Ledger for Settled {
    fn bounds(&self) -> Bounds {
        self.tiered.bounds()
    }

    fn role(&self) -> LedgerRole {
        self.tiered.role()
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        let activity = command.activity();
        let answer = self.tiered.step(command.clone()).await;
        match (command, activity) {
            (Command::StepTime(_), _) => {
                answer?;
                self.settle().await;
                Ok(Answer::Done)
            }
            (
                Command::Open(_)
                | Command::Amend { .. }
                | Command::Adjust(_)
                | Command::Reserve { .. }
                | Command::Advance { .. }
                | Command::ExpireDue { .. },
                Some(activity),
            ) => {
                let mut answer = self.settled(activity, answer).await?;
                if let Answer::Reserved(reservations) = &mut answer {
                    for outcome in &mut reservations.outcomes {
                        if let Outcome::Reserved { order, .. } | Outcome::Replayed { order, .. } = outcome {
                            **order = self.tiered.order(order.key).await?.expect("the truth has the order");
                        }
                    }
                }
                Ok(answer)
            }
            _ => answer,
        }
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        self.tiered.read(query).await
    }
}
