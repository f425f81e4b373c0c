//! The specification as a ledger: what random steps are compared with, and the other tier of a gate or a truth under
//! test.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Factory, Probe, Subject};
use crate::{
    domain::{ActivityId, By, Capture, Order, OrderId, OrderKey, SkuId, Timestamp, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advances, BatchId, Bounds, Bucket, Change, ChangeId,
        Chunk, Consumer, Due, Entry, Epoch, Fence, Gate, Kept, Lane, Ledger, LedgerError, NextEpoch, Opened,
        PersistMode, Position, Reference, RefundTask, Reservations, Reserve, Role, Stock, Terms, Transfer,
        Truth, Verdict, View,
        state_machine::{Book, Inspection},
    },
};

/// A [`Book`] behind a lock, with a time that only [`Probe::advance_time`] moves.
#[derive(Debug)]
pub struct Model(Mutex<State>);

#[derive(Debug)]
struct State {
    book: Book,
    now: Timestamp,
    batches: u64,
}

impl Model {
    /// An empty ledger.
    pub fn new(role: Role) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { book: Book::new(role), now: Timestamp::EPOCH, batches: 0 })))
    }

    /// An empty ledger as a subject.
    pub fn subject(role: Role) -> Subject {
        let model = Self::new(role);
        let probe = Arc::clone(&model);
        match role {
            Role::Single => Subject::single(model, probe),
            Role::Gate => Subject::gate(model, probe),
            Role::Truth => Subject::truth(model, probe),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a step of the model panicked")
    }

    fn step<T>(&self, step: impl FnOnce(&mut Book, Timestamp, BatchId) -> T) -> T {
        let mut state = self.state();
        state.batches += 1;
        let (now, batch) = (state.now, BatchId(state.batches));
        step(&mut state.book, now, batch)
    }
}

/// Makes [`Model`]s, so that the suite can be run on the specification itself.
#[derive(Clone, Copy, Debug)]
pub struct Models;

#[async_trait]
impl Factory for Models {
    fn name(&self) -> String {
        "specification".to_owned()
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Single, Role::Gate, Role::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: Role) -> Subject {
        Model::subject(role)
    }
}

#[async_trait]
impl Probe for Model {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.state().book.inspect(activity)
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        let mut state = self.state();
        state.now = state.now.max(to);
        // A lane that is not open takes the time when it opens.
        let _ = state.book.advance_time(lane, to);
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<Subject> {
        None
    }
}

#[async_trait]
impl Ledger for Model {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: 10_000, max_in_flight: 1, key_retention: None }
    }

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        self.step(|book, now, batch| book.open(now, batch, &terms))
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: By,
    ) -> Result<(), LedgerError> {
        self.step(|book, now, batch| book.amend(now, batch, activity, id, &change, &by))
    }

    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        self.step(|book, now, batch| book.adjust(now, batch, &adjustment))
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        self.step(|book, now, id| book.reserve(now, id, lane, epoch, &batch))
    }

    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError> {
        self.step(|book, now, id| book.advance(now, id, lane, &batch))
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        self.step(|book, now, batch| book.expire_due(now, batch, lane, limit))
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.step(|book, now, batch| book.send(now, batch, lane, to, sku, units))
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.step(|book, now, batch| book.receive(now, batch, transfer))
    }

    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.step(|book, now, batch| book.forget(now, batch, transfer))
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.state().book.transfers(lane)
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        Ok(self.state().book.activities())
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        Ok(self.state().book.terms(activity))
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        Ok(self.state().book.stock(activity, sku))
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        let state = self.state();
        state.book.view(state.now, lane)
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        Ok(self.state().book.order(key))
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        Ok(self.state().book.orders_of(user, after, limit))
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        Ok(self.state().book.locate(reference))
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        self.state().book.adjustment(activity, id)
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        Ok(self.state().book.refunds_due(lane, after, limit))
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        self.state().book.keep_unmatched(&capture)
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.state().book.register(consumer);
        Ok(())
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.state().book.retire(consumer);
        Ok(())
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.state().book.events(consumer, lane, from, limit)
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        self.state().book.ack(consumer, lane, position)
    }
}

#[async_trait]
impl Gate for Model {
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError> {
        Ok(self.state().book.open_epoch(activity))
    }

    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        self.state().book.close(activity, epoch);
        Ok(())
    }

    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.state().book.load(activity, epoch, chunk)
    }

    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError> {
        self.step(|book, now, _| book.reopen(now, activity, epoch, batch))
    }

    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError> {
        self.state().book.follow(lane, &entries)
    }

    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.state().book.followed(lane)
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
        self.step(|book, now, batch| book.persist(now, batch, lane, fence, mode, &entries))
    }

    async fn position(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.state().book.position(lane)
    }

    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        self.state().book.epoch(activity)
    }

    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError> {
        self.step(|book, now, batch| book.next_epoch(now, batch, activity, expected))
    }

    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        self.state().book.content(activity, after, limit)
    }
}

impl super::storms::Forgetful for Model {
    fn mark(&self) -> Box<dyn std::any::Any + Send> {
        Box::new(self.state().book.clone())
    }

    fn roll_back(&self, mark: &(dyn std::any::Any + Send)) {
        if let Some(book) = mark.downcast_ref::<Book>() {
            self.state().book = book.clone();
        }
    }

    fn wipe(&self) {
        let role = self.state().book.role();
        self.state().book = Book::new(role);
    }
}
