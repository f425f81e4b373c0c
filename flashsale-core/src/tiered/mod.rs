//! Two tiers as one ledger: a gate that admits, a truth that decides.
//!
//! [`Tiered`] answers [`reserve`](crate::ledger::Ledger::reserve) from the gate; such an order is queued. A pump brings
//! the gate's outbox to the truth, where the order is persisted or refused, and the truth's outbox back to the gate.
//! Everything else that happens to an order is decided by the truth. When the gate has lost something, the pump rebuilds
//! it from the truth under a new epoch.
//!
//! `ledger` says which tier answers what; `pump` moves entries between them; `rebuild` replaces a gate's content.

mod ledger;
mod pump;
mod rebuild;

pub use pump::Pumped;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::{
    domain::{ActivityId, Order, OrderKey},
    ledger::{Consumer, Epoch, Fence, Gate, Lane, LedgerError, Position, Truth},
};

/// How much the pump moves at once.
#[derive(Clone, Copy, Debug)]
pub struct TieredOptions {
    /// Entries in one transaction of the truth. Default 1,000.
    pub entries: usize,
    /// Orders in one part of a gate's content. Default 5,000.
    pub content: usize,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self { entries: 1_000, content: 5_000 }
    }
}

/// A gate and a truth as one ledger.
#[derive(Debug)]
pub struct Tiered {
    gate: Arc<dyn Gate>,
    truth: Arc<dyn Truth>,
    options: TieredOptions,
    /// The token of the lease under which this process pumps.
    fence: Fence,
    persisting: Consumer,
    following: Consumer,
    /// What this process takes to be the epoch of each activity.
    epochs: Mutex<HashMap<ActivityId, Epoch>>,
    /// One pump at a time for each activity.
    pumps: Mutex<HashMap<ActivityId, Arc<tokio::sync::Mutex<()>>>>,
    work: Notify,
}

/// Where a queued order stands, by what its buyer was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// One of the tiers has it.
    Known(Box<Order>),
    /// It is lost, and will never be an order: its epoch is over.
    Refused,
}

impl Tiered {
    /// Composes two ledgers. `fence` is the token of the caller's lease on the pump: of two processes that pump one
    /// activity, the one with the lower token is refused by the truth.
    pub fn new(gate: Arc<dyn Gate>, truth: Arc<dyn Truth>, fence: Fence, options: TieredOptions) -> Self {
        Self {
            gate,
            truth,
            options,
            fence,
            persisting: Consumer::new("persist"),
            following: Consumer::new("follow"),
            epochs: Mutex::default(),
            pumps: Mutex::default(),
            work: Notify::new(),
        }
    }

    /// The gate.
    pub fn gate(&self) -> &Arc<dyn Gate> {
        &self.gate
    }

    /// The truth.
    pub fn truth(&self) -> &Arc<dyn Truth> {
        &self.truth
    }

    /// What became of an order that was answered queued, with the position that its receipt names. An order that no tier
    /// knows in the open epoch proves that the gate has lost entries: it is rebuilt, and the order is refused.
    ///
    /// # Errors
    /// Those of the tiers; the answer is not known yet.
    pub async fn resolve(
        &self,
        key: OrderKey,
        lane: Lane,
        position: Position,
    ) -> Result<Resolution, LedgerError> {
        for _ in 0..2 {
            if let Some(order) = self.known(key).await? {
                return Ok(Resolution::Known(Box::new(order)));
            }
            let epoch = self.truth.epoch(key.activity).await?;
            if position.epoch < epoch {
                // What the old gate still held was saved before the epoch was taken: look once more.
                let order = self.known(key).await?;
                return Ok(order.map_or(Resolution::Refused, |order| Resolution::Known(Box::new(order))));
            }
            if !self.holds(lane, position).await? {
                self.rebuild(key.activity, epoch).await?;
            }
        }
        Err(LedgerError::Unavailable("the order's entry is at the gate, and the order is not".into()))
    }

    async fn known(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        if let Some(order) = self.truth.order(key).await? {
            return Ok(Some(order));
        }
        self.gate.order(key).await
    }

    fn epoch_of(&self, activity: ActivityId) -> Option<Epoch> {
        self.epochs.lock().ok()?.get(&activity).copied()
    }

    fn remember_epoch(&self, activity: ActivityId, epoch: Epoch) {
        if let Ok(mut epochs) = self.epochs.lock() {
            epochs.insert(activity, epoch);
        }
    }

    fn pump_lock(&self, activity: ActivityId) -> Arc<tokio::sync::Mutex<()>> {
        let mut pumps = self.pumps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(pumps.entry(activity).or_default())
    }
}
