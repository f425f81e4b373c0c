//! Two tiers as one ledger: a gate that admits and a truth that decides.
//!
//! [`Tiered`] answers [`reserve`](crate::ledger::LedgerCalls::reserve) from the gate, which queues
//! orders. A pump moves the gate's outbox to the truth, which persists or refuses them, and the
//! truth's outbox to the gate. The truth decides everything else about an order. If the gate lost
//! data, the pump rebuilds it from the truth under a new epoch.
//!
//! Several nodes may compose the same two ledgers, and each may pump: the truth's position and epoch
//! are compared and set, so of several nodes one wins and the others go on from there.
//!
//! `ledger` maps calls to tiers, with `admission`, `adjusting` and `transit` for those that concern
//! both; `pump` moves entries, woken by `notes`; `rebuild` replaces a gate's content; `epochs` is
//! what a node knows about them.

mod adjusting;
mod admission;
mod concurrent;
mod epochs;
mod ledger;
mod notes;
mod pump;
mod rebuild;
mod remembered;
mod transit;

pub use pump::Pumped;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use epochs::Epochs;
use notes::Notes;
use remembered::Pump;

use crate::{
    domain::{ActivityId, Order, OrderKey},
    ledger::{Consumer, Lane, Ledger, LedgerCalls as _, LedgerError, Position},
};

/// Batch sizes of the pump, and its patience.
#[derive(Clone, Copy, Debug)]
pub struct TieredOptions {
    /// Entries per transaction of the truth. Default 1,000.
    pub entries: usize,
    /// Orders per chunk of a gate's content. Default 5,000.
    pub content: usize,
    /// How long a gate that is not open is left to another node that may be loading it, before this
    /// one rebuilds it. Doubles, up to 64 times, while nodes overtake each other. Default 1 s.
    pub patience: Duration,
}

impl Default for TieredOptions {
    fn default() -> Self {
        Self { entries: 1_000, content: 5_000, patience: Duration::from_secs(1) }
    }
}

/// A gate and a truth, composed into one ledger.
#[derive(Debug)]
pub struct Tiered {
    gate: Arc<dyn Ledger>,
    truth: Arc<dyn Ledger>,
    options: TieredOptions,
    persist_consumer: Consumer,
    follow_consumer: Consumer,
    epochs: Epochs,
    /// Allows one round at a time per activity.
    pumps: Mutex<HashMap<ActivityId, Arc<tokio::sync::Mutex<Pump>>>>,
    notes: Notes,
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
    /// Composes two ledgers. Other nodes may compose the same two.
    pub fn new(gate: Arc<dyn Ledger>, truth: Arc<dyn Ledger>, options: TieredOptions) -> Self {
        Self {
            gate,
            truth,
            options,
            persist_consumer: Consumer::new("persist"),
            follow_consumer: Consumer::new("follow"),
            epochs: Epochs::new(options.patience),
            pumps: Mutex::default(),
            notes: Notes::default(),
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
            let refused = position.epoch < epoch;
            if refused || !self.holds(lane, position).await? {
                // The entry was persisted meanwhile and then forgotten, or salvaged before the epoch
                // was taken: check again.
                if let Some(order) = self.known(key).await? {
                    return Ok(Resolution::Known(Box::new(order)));
                }
                if refused {
                    return Ok(Resolution::Refused);
                }
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

    fn pump_of(&self, activity: ActivityId) -> Arc<tokio::sync::Mutex<Pump>> {
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pumps.entry(activity).or_default())
    }
}
