//! The specification as a ledger: the oracle of random sequences, and the other tier of a gate or a
//! truth under test.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Factory, LedgerUnderTest, TestControl};
use crate::{
    domain::{ActivityId, Timestamp},
    ledger::{
        Answer, BatchId, Bounds, Command, Lane, Ledger, LedgerError, LedgerRole, Query, Reply,
        state_machine::{Batch, Inspection, StateMachine},
    },
};

/// A [`StateMachine`] behind a lock, whose time only [`TestControl::advance_time`] moves.
#[derive(Debug)]
pub struct Model(Mutex<State>);

#[derive(Debug)]
struct State {
    machine: StateMachine,
    now: Timestamp,
    batches: u64,
}

impl Model {
    /// Makes an empty ledger.
    pub fn new(role: LedgerRole) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            machine: StateMachine::new(role),
            now: Timestamp::EPOCH,
            batches: 0,
        })))
    }

    /// Makes an empty ledger for the suite.
    pub fn subject(role: LedgerRole) -> LedgerUnderTest {
        let model = Self::new(role);
        LedgerUnderTest { ledger: Arc::clone(&model) as _, probe: model }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a step of the model panicked before")
    }
}

/// Makes [`Model`]s, to run the suite on the specification itself.
#[derive(Clone, Copy, Debug)]
pub struct Models;

#[async_trait]
impl Factory for Models {
    fn name(&self) -> String {
        "specification".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Gate, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        Model::subject(role)
    }
}

#[async_trait]
impl TestControl for Model {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.state().machine.inspect(activity)
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        let mut state = self.state();
        state.now = state.now.max(to);
        // A lane that is not open yet gets this time when it opens.
        let _ = state.machine.advance_time(lane, to);
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<LedgerUnderTest> {
        None
    }
}

#[async_trait]
impl Ledger for Model {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: 10_000, max_in_flight: 1, is_shared: false, key_retention: None }
    }

    fn role(&self) -> LedgerRole {
        self.state().machine.role()
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        let mut state = self.state();
        state.batches += 1;
        let batch = Batch { id: BatchId(state.batches), now: state.now };
        let Command::StepTime(step) = command else { return state.machine.step(batch, &command) };
        // Steps its own clock, too: before a step back, and after a step forward.
        let stepped = batch.now.moved(step.by_ms());
        let at = Batch { now: batch.now.min(stepped), ..batch };
        if state.machine.step_time(at, &step)? > 0 {
            state.now = stepped;
        }
        Ok(Answer::Done)
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        let state = self.state();
        state.machine.read(state.now, &query)
    }
}

impl super::storms::ForgettingStore for Model {
    fn mark(&self) -> Box<dyn std::any::Any + Send> {
        Box::new(self.state().machine.clone())
    }

    fn roll_back(&self, mark: &(dyn std::any::Any + Send)) {
        if let Some(machine) = mark.downcast_ref::<StateMachine>() {
            self.state().machine = machine.clone();
        }
    }

    fn wipe(&self) {
        let role = self.state().machine.role();
        self.state().machine = StateMachine::new(role);
    }
}
