//! Truths: durable ledgers that decide what gates admitted.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    AdjustmentId, BatchId, Change, ChangeId, Entry, Epoch, Fence, Lane, Ledger, LedgerError, Position, Terms,
};
use crate::domain::{ActivityId, Attribution, Order, OrderId, SkuId};

/// A ledger that persists or refuses what a [`Gate`](super::Gate) admitted.
///
/// A truth has one lane per activity, the first, with all units. The terms' buckets are the gate's.
#[async_trait]
pub trait Truth: Ledger {
    /// Persists entries of a gate's outbox, and in the same step the position of the last one.
    ///
    /// An order is created with the offer's price and a hold that starts now, or stored as refused
    /// if its epoch is over or units, limits, key or nonce forbid it. The pay-time bound and the
    /// window are not checked again. An unknown SKU is refused without a trace. An order whose id
    /// belongs to another user's is refused each time: nothing is stored, and
    /// [`OrderChange::Refused`](super::OrderChange::Refused) tells the gate. An adjustment takes
    /// effect or is refused. Other entries only move the position. A known order keeps its verdict.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lane has seen a newer fence; [`LedgerError::Moved`] if `mode`
    /// names another position than the lane's, or the entries do not follow it without a gap.
    async fn persist(
        &self,
        lane: Lane,
        fence: Fence,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError>;

    /// Returns the position of the last persisted entry of a gate's lane.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn position(&self, lane: Lane) -> Result<Position, LedgerError>;

    /// Returns the epoch of an activity; 0 if none was taken.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError>;

    /// Takes the next epoch if the current one is `expected`. From then on, orders of older epochs
    /// are refused, and the position of every lane is the first entry of a gate in the new epoch.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if the current epoch differs; [`LedgerError::NotOpen`].
    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError>;

    /// Returns a chunk of an activity's content for loading a gate: `limit` orders after `after`,
    /// in an order chosen by the truth. Each chunk is its own snapshot. Orders carry revisions, so
    /// following from the first chunk's position yields the same content.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Chunk, LedgerError>;
}

/// The way in which [`Truth::persist`] treats the position.
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
    /// The id belongs to another user's order.
    IdTaken,
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
