//! Two tiers as one ledger: a gate that admits and a truth that decides.
//!
//! [`Tiered`] answers [`reserve`](crate::ledger::LedgerCalls::reserve) from the gate, which queues
//! orders. A pump moves the gate's outbox to the truth, which persists or refuses them, and the
//! truth's outbox to the gate. The truth decides everything else about an order. If the gate lost
//! data, the pump rebuilds it from the truth under a new epoch.
//!
//! `ledger` maps calls to tiers; `pump` moves entries; `rebuild` replaces a gate's content.

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
    ledger::{Consumer, Epoch, Fence, Lane, Ledger, LedgerCalls as _, LedgerError, Position},
};

/// Batch sizes of the pump.
#[derive(Clone, Copy, Debug)]
pub struct TieredOptions {
    /// Entries per transaction of the truth. Default 1,000.
    pub entries: usize,
    /// Orders per chunk of a gate's content. Default 5,000.
    pub content: usize,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self { entries: 1_000, content: 5_000 }
    }
}

/// A gate and a truth, composed into one ledger.
#[derive(Debug)]
pub struct Tiered {
    gate: Arc<dyn Ledger>,
    truth: Arc<dyn Ledger>,
    options: TieredOptions,
    /// The token of this process's lease on the pump.
    fence: Fence,
    persist_consumer: Consumer,
    follow_consumer: Consumer,
    /// The epoch of each activity, as last seen by this process.
    epochs: Mutex<HashMap<ActivityId, Epoch>>,
    /// Allows one pump at a time per activity.
    pumps: Mutex<HashMap<ActivityId, Arc<tokio::sync::Mutex<()>>>>,
    wake_pump: Notify,
}

/// The fate of a queued order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A tier has the order.
    Known(Box<Order>),
    /// The order is lost and its epoch is over, so it will never exist.
    Refused,
}

impl Tiered {
    /// Composes two ledgers. `fence` is the token of the caller's lease on the pump: if two
    /// processes pump one activity, the truth refuses the one with the lower token.
    pub fn new(gate: Arc<dyn Ledger>, truth: Arc<dyn Ledger>, fence: Fence, options: TieredOptions) -> Self {
        Self {
            gate,
            truth,
            options,
            fence,
            persist_consumer: Consumer::new("persist"),
            follow_consumer: Consumer::new("follow"),
            epochs: Mutex::default(),
            pumps: Mutex::default(),
            wake_pump: Notify::new(),
        }
    }

    /// Returns the gate.
    pub fn gate(&self) -> &Arc<dyn Ledger> {
        &self.gate
    }

    /// Returns the truth.
    pub fn truth(&self) -> &Arc<dyn Ledger> {
        &self.truth
    }

    /// Resolves a queued order, given the position in its receipt. If no tier knows it in the open
    /// epoch, the gate has lost entries: the gate is rebuilt and the order refused.
    ///
    /// # Errors
    /// Errors of the tiers; the order's fate is still unknown.
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
                // The old gate's entries were salvaged before the epoch was taken: check again.
                let order = self.known(key).await?;
                return Ok(order.map_or(Resolution::Refused, |order| Resolution::Known(Box::new(order))));
            }
            if !self.holds(lane, position).await? {
                self.rebuild(key.activity, epoch).await?;
            }
        }
        Err(LedgerError::Unavailable("the gate has the order's entry but not the order".into()))
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
