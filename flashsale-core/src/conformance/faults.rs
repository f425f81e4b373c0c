//! Faults between a caller and a ledger: delays, lost requests, lost replies, duplicates, panics.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advances, BatchId, Bounds, Bucket, Change, ChangeId,
        Chunk, Consumer, Due, Entry, Epoch, Fence, Gate, Kept, Lane, Ledger, LedgerError, NextEpoch, Opened,
        PersistMode, Position, Reference, RefundTask, Reservations, Reserve, Stock, Terms, TimeStep,
        Transfer, Truth, Verdict, View,
    },
};

/// How often calls fail, and how often they have failed.
#[derive(Debug)]
pub struct Faults {
    percent: AtomicU32,
    dice: Mutex<fastrand::Rng>,
    injected: AtomicU64,
    panics: AtomicBool,
}

enum Fault {
    Delayed(u8),
    RequestLost,
    ReplyLost,
    Twice,
}

impl Faults {
    /// Makes faults that are determined by a seed; they are off until [`Faults::set_percent`].
    pub fn new(seed: u64) -> Arc<Self> {
        let dice = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self {
            percent: AtomicU32::new(0),
            dice,
            injected: AtomicU64::new(0),
            panics: AtomicBool::new(false),
        })
    }

    /// Injects a fault into `percent` of 100 calls; 100 or more means every call.
    pub fn set_percent(&self, percent: u32) {
        self.percent.store(percent, Ordering::SeqCst);
    }

    /// Lets the next call panic.
    pub fn panic_once(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// Returns how many calls had a fault injected.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::SeqCst)
    }

    /// Whether other tasks run before a call, which is not a fault.
    fn yields_first(&self) -> bool {
        self.percent.load(Ordering::SeqCst) > 0 && self.dice.lock().is_ok_and(|mut dice| dice.bool())
    }

    fn roll(&self) -> Option<Fault> {
        let mut dice = self.dice.lock().ok()?;
        if dice.u32(0..100) >= self.percent.load(Ordering::SeqCst) {
            return None;
        }
        self.injected.fetch_add(1, Ordering::SeqCst);
        Some(match dice.u8(0..4) {
            0 => Fault::Delayed(dice.u8(1..4)),
            1 => Fault::RequestLost,
            2 => Fault::ReplyLost,
            _ => Fault::Twice,
        })
    }
}

/// A ledger behind an unreliable connection.
#[derive(Debug)]
pub struct Faulty<L: ?Sized> {
    inner: Arc<L>,
    faults: Arc<Faults>,
}

impl<L: ?Sized> Faulty<L> {
    /// Wraps a ledger.
    pub fn new(inner: Arc<L>, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { inner, faults })
    }

    async fn call<T, F>(&self, run: impl Fn() -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        assert!(!self.faults.panics.swap(false, Ordering::SeqCst), "a panic was asked for");
        if self.faults.yields_first() {
            tokio::task::yield_now().await;
        }
        match self.faults.roll() {
            None => run().await,
            Some(Fault::Delayed(turns)) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                run().await
            }
            Some(Fault::RequestLost) => Err(LedgerError::Unknown("the request was lost".into())),
            Some(Fault::ReplyLost) => {
                run().await?;
                Err(LedgerError::Unknown("the reply was lost".into()))
            }
            Some(Fault::Twice) => {
                run().await?;
                run().await
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Ledger + ?Sized> Ledger for Faulty<L> {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        self.call(|| self.inner.open(Arc::clone(&terms))).await
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError> {
        self.call(|| self.inner.amend(activity, id, change.clone(), by.clone())).await
    }

    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        self.call(|| self.inner.adjust(adjustment.clone())).await
    }

    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError> {
        self.call(|| self.inner.step_time(step.clone())).await
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        self.call(|| self.inner.reserve(lane, epoch, batch.clone())).await
    }

    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError> {
        self.call(|| self.inner.advance(lane, batch.clone())).await
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        self.call(|| self.inner.expire_due(lane, limit)).await
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.call(|| self.inner.send(lane, to, sku, units)).await
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.call(|| self.inner.receive(transfer)).await
    }

    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.call(|| self.inner.forget(transfer)).await
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.call(|| self.inner.transfers(lane)).await
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        self.call(|| self.inner.activities()).await
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        self.call(|| self.inner.terms(activity)).await
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        self.call(|| self.inner.stock(activity, sku)).await
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        self.call(|| self.inner.view(lane)).await
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        self.call(|| self.inner.order(key)).await
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        self.call(|| self.inner.orders_of(user, after, limit)).await
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        self.call(|| self.inner.locate(reference)).await
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        self.call(|| self.inner.adjustment(activity, id)).await
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        self.call(|| self.inner.refunds_due(lane, after, limit)).await
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        self.call(|| self.inner.keep_unmatched(capture.clone())).await
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.call(|| self.inner.register(consumer)).await
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.call(|| self.inner.retire(consumer)).await
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.call(|| self.inner.events(consumer, lane, from, limit)).await
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        self.call(|| self.inner.ack(consumer, lane, position)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Gate + ?Sized> Gate for Faulty<L> {
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError> {
        self.call(|| self.inner.epoch(activity)).await
    }

    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        self.call(|| self.inner.close(activity, epoch)).await
    }

    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.call(|| self.inner.load(activity, epoch, chunk.clone())).await
    }

    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError> {
        self.call(|| self.inner.reopen(activity, epoch, batch)).await
    }

    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError> {
        self.call(|| self.inner.follow(lane, entries.clone())).await
    }

    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.call(|| self.inner.followed(lane)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Truth + ?Sized> Truth for Faulty<L> {
    async fn persist(
        &self,
        lane: Lane,
        fence: Fence,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.call(|| self.inner.persist(lane, fence, mode, entries.clone())).await
    }

    async fn position(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.call(|| self.inner.position(lane)).await
    }

    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        self.call(|| self.inner.epoch(activity)).await
    }

    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError> {
        self.call(|| self.inner.next_epoch(activity, expected)).await
    }

    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        self.call(|| self.inner.content(activity, after, limit)).await
    }
}
