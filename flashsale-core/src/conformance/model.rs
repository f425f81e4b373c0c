//! The specification as a ledger: the oracle of random sequences, and the other tier of a gate or a
//! truth under test.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Factory, LedgerUnderTest, TestControl};
use crate::{
    domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, Timestamp, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advances, BatchId, Bounds, Bucket, Change, ChangeId,
        Chunk, Consumer, Due, Entry, Epoch, Fence, Gate, Kept, Lane, Ledger, LedgerError, LedgerRole,
        NextEpoch, Opened, PersistMode, Position, Reference, RefundTask, Reservations, Reserve, Stock, Terms,
        TimeStep, Transfer, Truth, Verdict, View,
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
        let probe = Arc::clone(&model);
        match role {
            LedgerRole::Single => LedgerUnderTest::single(model, probe),
            LedgerRole::Gate => LedgerUnderTest::gate(model, probe),
            LedgerRole::Truth => LedgerUnderTest::truth(model, probe),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a step of the model panicked before")
    }

    fn step<T>(&self, step: impl FnOnce(&mut StateMachine, Batch) -> T) -> T {
        let mut state = self.state();
        state.batches += 1;
        let batch = Batch { id: BatchId(state.batches), now: state.now };
        step(&mut state.machine, batch)
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

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        self.step(|machine, batch| machine.open(batch, &terms))
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError> {
        self.step(|machine, batch| machine.amend(batch, activity, id, &change, &by))
    }

    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        self.step(|machine, batch| machine.adjust(batch, &adjustment))
    }

    /// Steps its own clock, too: before a step back, and after a step forward.
    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError> {
        let mut state = self.state();
        state.batches += 1;
        let stepped = state.now.moved(step.by_ms());
        let batch = Batch { id: BatchId(state.batches), now: state.now.min(stepped) };
        if state.machine.step_time(batch, &step)? > 0 {
            state.now = stepped;
        }
        Ok(())
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        requests: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        self.step(|machine, batch| machine.reserve(batch, lane, epoch, &requests))
    }

    async fn advance(&self, lane: Lane, steps: Vec<Advance>) -> Result<Advances, LedgerError> {
        self.step(|machine, batch| machine.advance(batch, lane, &steps))
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        self.step(|machine, batch| machine.expire_due(batch, lane, limit))
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.step(|machine, batch| machine.send(batch, lane, to, sku, units))
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.step(|machine, batch| machine.receive(batch, transfer))
    }

    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.step(|machine, batch| machine.forget(batch, transfer))
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.state().machine.transfers(lane)
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        Ok(self.state().machine.activities())
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        Ok(self.state().machine.terms(activity))
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        Ok(self.state().machine.stock(activity, sku))
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        let state = self.state();
        state.machine.view(state.now, lane)
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        Ok(self.state().machine.order(key))
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        Ok(self.state().machine.orders_of(user, after, limit))
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        Ok(self.state().machine.locate(reference))
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        self.state().machine.adjustment(activity, id)
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        Ok(self.state().machine.refunds_due(lane, after, limit))
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        self.state().machine.keep_unmatched(&capture)
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.state().machine.register(consumer);
        Ok(())
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.state().machine.retire(consumer);
        Ok(())
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.state().machine.events(consumer, lane, from, limit)
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        self.state().machine.ack(consumer, lane, position)
    }
}

#[async_trait]
impl Gate for Model {
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError> {
        Ok(self.state().machine.open_epoch(activity))
    }

    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        self.state().machine.close(activity, epoch);
        Ok(())
    }

    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.state().machine.load(activity, epoch, chunk)
    }

    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError> {
        self.step(|machine, Batch { now, .. }| machine.reopen(Batch { id: batch, now }, activity, epoch))
    }

    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError> {
        self.state().machine.follow(lane, &entries)
    }

    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.state().machine.followed(lane)
    }
}

#[async_trait]
impl Truth for Model {
    async fn persist(
        &self,
        lane: Lane,
        fence: Fence,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.step(|machine, batch| machine.persist(batch, lane, fence, mode, &entries))
    }

    async fn position(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.state().machine.position(lane)
    }

    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        self.state().machine.epoch(activity)
    }

    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError> {
        self.step(|machine, batch| machine.next_epoch(batch, activity, expected))
    }

    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        self.state().machine.content(activity, after, limit)
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
