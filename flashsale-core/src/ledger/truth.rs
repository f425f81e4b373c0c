//! Truths: durable ledgers that decide what gates admitted.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    AdjustmentId, BatchId, Change, ChangeId, Entry, Epoch, Fence, Lane, Ledger, LedgerError, Position, Terms,
};
use crate::domain::{ActivityId, Attribution, Order, OrderId, SkuId};

/// A ledger that keeps what a [`Gate`](super::Gate) admitted, or refuses it.
///
/// A truth has one stock of an offer and one lane of an activity, the first; the buckets of the terms are the gate's.
#[async_trait]
pub trait Truth: Ledger {
    /// Takes entries of a gate's outbox, in one step with the position of the last of them.
    ///
    /// A placed order is made, with its price from the offer and its hold from now on, or made as refused: because its
    /// epoch is over, or units, limits, key or nonce do not allow it. The bound of the pay-time strategy and the window are
    /// not judged again. An adjustment is put in force or refused. Other entries only move the position. What is known by
    /// its id is persisted.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] under an older fence than the lane has seen; [`LedgerError::Moved`] if `mode` names a
    /// position that is not the lane's, or the entries do not follow it without a gap.
    async fn persist(
        &self,
        lane: Lane,
        fence: Fence,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError>;

    /// The position of the last entry of a gate's lane that is persisted.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn position(&self, lane: Lane) -> Result<Position, LedgerError>;

    /// The epoch of an activity; 0 if none was taken.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError>;

    /// Takes the next epoch if the present one is `expected`. From then on orders of older epochs are refused, and the
    /// position of every lane is the first entry that a gate of the new epoch writes.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if the epoch is another; [`LedgerError::NotOpen`].
    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError>;

    /// A part of an activity's content, to load a gate with: orders after `after` in an order of the truth's choice, at
    /// most `limit`. Each part is a snapshot of its own; orders carry their revision, so that a gate that follows from the
    /// position of the first part arrives at the same content.
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

/// How [`Truth::persist`] treats the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistMode {
    /// The entries follow this one, which is the lane's position; the position moves to the last of them.
    After(Position),
    /// The entries are what a gate that is being given up still holds; the position stays.
    Salvage,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable, now or before.
    Persisted,
    /// It was refused, now or before.
    Refused(RefusedBecause),
}

/// Why the truth did not take an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedBecause {
    /// Its epoch is over.
    StaleEpoch,
    /// The truth has no such offer.
    UnknownOffer,
    /// Units are missing.
    SoldOut,
    /// A limit does not allow it.
    LimitReached,
    /// The key made another order, or the id another adjustment.
    KeyTaken,
    /// The ticket made another order.
    TicketUsed,
    /// It was refused before.
    Before,
}

/// An epoch that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The batch id of the first entry that a gate writes in it.
    pub batch: BatchId,
}

/// A part of an activity's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The position of the truth's outbox at which it was read.
    pub position: Position,
    /// The cursor that this part was asked with.
    pub after: Option<OrderId>,
    /// The terms as first opened.
    pub terms: Arc<Terms>,
    /// Every change since then.
    pub changes: Vec<(ChangeId, Change, Attribution)>,
    /// Every adjustment in force.
    pub adjustments: Vec<(AdjustmentId, SkuId, i64)>,
    /// Orders.
    pub orders: Vec<Order>,
    /// The cursor of the next part; `None` if this is the last.
    pub next: Option<OrderId>,
}
