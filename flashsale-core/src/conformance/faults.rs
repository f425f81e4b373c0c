//! Faults between a caller and a ledger, or between a ledger and its store of rows: delays, lost requests,
//! lost replies, duplicates, panics.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    domain::{ActivityId, OrderId, UserId},
    ledger::{
        AdjustmentId, Answer, Bounds, Command, Lane, Ledger, LedgerError, LedgerRole, Query, Reply,
        rows::{Changes, Excerpt, Needs, OrderRow, Rows},
    },
};

/// How often calls fail, and how often they have failed.
#[derive(Debug)]
pub struct Faults {
    percent: AtomicU32,
    dice: Mutex<fastrand::Rng>,
    injected: AtomicU64,
    calls: AtomicU64,
    interleaves: AtomicBool,
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
            calls: AtomicU64::new(0),
            interleaves: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    /// Starts over with another seed.
    pub fn reseed(&self, seed: u64) {
        if let Ok(mut dice) = self.dice.lock() {
            dice.seed(seed);
        }
    }

    /// Injects a fault into `percent` of 100 calls; 100 or more means every call.
    pub fn set_percent(&self, percent: u32) {
        self.percent.store(percent, Ordering::SeqCst);
    }

    /// Lets other tasks run before some calls, also while no faults are injected.
    pub fn interleave(&self) {
        self.interleaves.store(true, Ordering::SeqCst);
    }

    /// Returns how many calls were made, each counted once however often it was repeated.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
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
        (self.percent.load(Ordering::SeqCst) > 0 || self.interleaves.load(Ordering::SeqCst))
            && self.dice.lock().is_ok_and(|mut dice| dice.bool())
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

/// A ledger or a store of rows behind an unreliable connection.
#[derive(Debug)]
pub struct Faulty<L: ?Sized> {
    inner: Arc<L>,
    faults: Arc<Faults>,
}

impl<L: ?Sized> Faulty<L> {
    /// Wraps a ledger or a store.
    pub fn new(inner: Arc<L>, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { inner, faults })
    }

    async fn call<T, F>(&self, run: impl Fn() -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        assert!(!self.faults.panics.swap(false, Ordering::SeqCst), "a panic was asked for");
        self.faults.calls.fetch_add(1, Ordering::SeqCst);
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
impl<L: Ledger + ?Sized> Ledger for Faulty<L> {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn role(&self) -> LedgerRole {
        self.inner.role()
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        self.call(|| self.inner.step(command.clone())).await
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        self.call(|| self.inner.read(query.clone())).await
    }
}

#[async_trait]
impl<R: Rows + ?Sized> Rows for Faulty<R> {
    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
        self.call(|| self.inner.read(lane, needs)).await
    }

    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError> {
        self.call(|| self.inner.commit(lane, changes)).await
    }

    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError> {
        self.call(|| self.inner.orders(lane, owed, after, limit)).await
    }

    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.call(|| self.inner.entries(lane, from, limit)).await
    }

    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError> {
        self.call(|| self.inner.adjustments(lane)).await
    }

    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        self.call(|| self.inner.lanes()).await
    }

    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError> {
        self.call(|| self.inner.find(activity, order)).await
    }
}
