//! What a truth and its gate exchange: verdicts, epochs and content.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AdjustmentId, BatchId, Change, ChangeId, Epoch, Position, Terms};
use crate::domain::{Attribution, Order, OrderId, OrderKey, SkuId};

/// The way in which [`persist`](super::LedgerCalls::persist) treats the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistMode {
    /// The entries follow this position, which is the lane's; it moves to the last entry.
    After(Position),
    /// The entries are left over in a gate that is being replaced; the position stays.
    Salvage,
}

/// The outcome of persisting one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The entry is durable, now or since earlier.
    Persisted,
    /// The entry was refused, now or earlier.
    Refused(RefusalReason),
}

/// The reason why the truth refused an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Its epoch is over.
    StaleEpoch,
    /// The truth has no such offer.
    UnknownOffer,
    /// Too few units are available.
    SoldOut,
    /// A limit would be exceeded.
    LimitReached,
    /// The key belongs to another order, or the id to another adjustment.
    KeyTaken,
    /// The ticket created another order.
    TicketUsed,
    /// It was refused earlier.
    Before,
}

/// An epoch taken at the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The batch id of a gate's first entry in this epoch.
    pub batch: BatchId,
}

/// A chunk of an activity's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The position in the truth's outbox at which it was read.
    pub position: Position,
    /// The cursor with which it was requested.
    pub after: Option<OrderId>,
    /// The terms as first opened.
    pub terms: Arc<Terms>,
    /// Every change since then.
    pub changes: Vec<(ChangeId, Change, Attribution)>,
    /// Every adjustment in force.
    pub adjustments: Vec<(AdjustmentId, SkuId, i64)>,
    /// The orders of this chunk.
    pub orders: Vec<Order>,
    /// The cursor of the next chunk; `None` for the last.
    pub next: Option<OrderId>,
}

impl Chunk {
    /// The order after which the next chunk begins; `None` if this is the last one.
    pub fn continues_after(&self) -> Option<OrderKey> {
        self.orders.last().map(|order| order.key).filter(|_| self.next.is_some())
    }
}
