//! The contract of ledgers.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Adjusted, Adjustment, Advance, Advances, Bucket, Change, ChangeId, Due, Entry, Epoch, Lane, LedgerError,
    Position, RefundTask, Reservations, Reserve, Stock, Terms, TimeStep, Transfer, View,
};
use crate::domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, PaymentId, SkuId, UserId};

/// Keeps the stock, limits and orders of offers.
///
/// # Contract
/// - **Atomic.** One call is one atomic step of one lane. Items of a batch are decided in order,
///   each seeing the effects of its predecessors, and the batch commits entirely or not at all.
///   Events are written in the same step. [`open`](Ledger::open), [`amend`](Ledger::amend) and
///   [`step_time`](Ledger::step_time) take such a step in each lane; repeating a failed call
///   resumes where it stopped.
/// - **Answered after the commit.** An answer, even to a declined request, is as durable as the
///   ledger promises.
/// - **Repeatable.** After an indefinite error, repeating a call with the same ids is safe and
///   returns the result of the first call.
/// - **Cancellation.** Dropping a future takes the step entirely or not at all.
/// - **Time** is `max(last, now)` in each lane, from one deciding clock; every answer carries it.
///   After a restart, `last` is the time of the lane's last entry. Only
///   [`step_time`](Ledger::step_time) moves `last` back.
/// - **Numbering.** Events of a lane are numbered from 1 without gaps.
/// - **Errors** apply to the whole call; [`LedgerError`] says what a caller may conclude.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Returns the limits of this implementation.
    fn bounds(&self) -> Bounds;

    // Opening and changing activities.

    /// Opens an activity in all its lanes. Has no effect if it was first opened with the same
    /// terms.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if it is open with other terms; [`LedgerError::NotDeciding`] at a
    /// gate, which [`reopen`](super::Gate::reopen) opens.
    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError>;

    /// Changes an activity in all its lanes. A lane ignores a change that it has, or that is older
    /// than its latest change of the same thing.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the new terms would be invalid; [`LedgerError::NotOpen`].
    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError>;

    /// Adds units to an offer or removes available ones, in the activity's first lane. On
    /// `Insufficient`, first [`send`](Ledger::send) units to that lane from the others.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a delta of 0 or beyond ±10⁹;
    /// [`LedgerError::NotDeciding`] for a positive delta at a gate.
    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError>;

    /// Moves the time of every lane along with a step of the deciding clock, so that holds last as
    /// long as they were granted. In each lane, once for each id:
    /// - open deadlines move by the step: those of holds, of open payments, and of payments that
    ///   are handed out again to be closed. A gate has none.
    /// - `last` moves by the step, but not below `now`.
    ///
    /// Windows of activities and times of placed orders stay. Step the clock itself after this call
    /// for a step forward, and before it for a step back: in between, a lane's time stands still,
    /// and no hold ends early. A ledger that takes the step in one lane after another finishes it
    /// before it decides anything after a restart.
    ///
    /// # Errors
    /// Errors of the store.
    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError>;

    // Deciding.

    /// Decides requests for units, in the order of precedence of [`Outcome`](super::Outcome).
    ///
    /// `epoch` is the epoch that the caller expects, or `None` to skip the check. A mismatch, like
    /// an activity that is not open, is answered with `NotReady`.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a user of another lane; [`LedgerError::Unavailable`] for a batch
    /// that would place an order while the lane's outbox is full, because a consumer stands still;
    /// errors of the store.
    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError>;

    /// Takes steps in the life cycle of orders.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate; [`LedgerError::Invalid`] outside the order's lane.
    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError>;

    /// Expires overdue orders and hands out payments to close: at most `limit`, longest overdue
    /// first.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate.
    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError>;

    // Transfers between buckets.

    /// Takes up to `units` units of an offer out of a lane for another bucket; `None` if it has
    /// none.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError>;

    /// Adds a transfer to its destination, once and only in the order of the source's numbers.
    /// Returns whether the destination has it.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a transfer that no bucket can have
    /// sent; [`LedgerError::Moved`] for another epoch.
    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError>;

    /// Makes the source forget a transfer whose arrival is durable.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError>;

    /// Returns the transfers out of a lane that are not forgotten, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError>;

    // Reading.

    /// Returns the activities that are open.
    ///
    /// # Errors
    /// Errors of the store.
    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError>;

    /// Returns the current terms of an activity, if it is open.
    ///
    /// # Errors
    /// Errors of the store.
    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError>;

    /// Returns the units of an offer, summed over lanes without a snapshot; `None` if unknown.
    ///
    /// # Errors
    /// Errors of the store.
    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError>;

    /// Returns a view of a lane, for declining requests locally.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn view(&self, lane: Lane) -> Result<View, LedgerError>;

    /// Returns an order of the user in the key; orders of other users are not found.
    ///
    /// # Errors
    /// Errors of the store.
    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError>;

    /// Returns the orders of a user in all activities with ids below `after`, highest id first.
    ///
    /// # Errors
    /// Errors of the store.
    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError>;

    /// Finds the key of an order by its id or the id of a payment.
    ///
    /// # Errors
    /// Errors of the store.
    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError>;

    /// Returns the SKU and delta of an adjustment that is in force.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &super::AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError>;

    /// Returns the due refunds of up to `limit` orders of a lane, starting after the order `after`.
    /// The ledger chooses the order of the list, which is stable while a caller pages.
    ///
    /// # Errors
    /// Errors of the store.
    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError>;

    // Captures without an order.

    /// Keeps a verified capture of an unknown payment, once. It is applied in the same step in
    /// which a payment with that id opens.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate; errors of the store.
    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError>;

    // Archiving.

    /// Moves an activity to where it takes no memory, if it rests: it is over, and has no deadlines,
    /// refunds due, transfers, or events that a consumer has not acknowledged. Returns whether it is
    /// there now.
    ///
    /// It is then not among the [`activities`](Ledger::activities), and takes no step of time. Its
    /// terms, stock and orders are read as before, but more slowly. Any call that could change it
    /// brings it back first, which takes as long as it has orders.
    ///
    /// The default returns `false`, for ledgers that do not hold activities in memory.
    ///
    /// # Errors
    /// Errors of the store; the activity then stays where it is.
    async fn archive(&self, activity: ActivityId) -> Result<bool, LedgerError> {
        let _ = activity;
        Ok(false)
    }

    // Outbox.

    /// Registers a consumer; entries are kept until it acknowledges them. Repeating has no effect.
    ///
    /// # Errors
    /// Errors of the store.
    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError>;

    /// Removes a consumer; entries are no longer kept for it.
    ///
    /// # Errors
    /// Errors of the store.
    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError>;

    /// Returns up to `limit` entries of a lane, oldest first, from `from` on, inclusively; without
    /// it, from the consumer's last acknowledged entry on, or the oldest. If the first entry is
    /// missing or has another batch id than `from`, the reader has read another history.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if the consumer is not registered.
    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError>;

    /// Acknowledges all entries up to a position. Ignores a position that is unknown or already
    /// passed. Entries before the last one that every consumer acknowledged may be deleted.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if the consumer is not registered.
    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError>;
}

/// The limits of a ledger implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum number of items per batch.
    pub max_batch: usize,
    /// How many batches per lane a process should keep in flight: more than 1 if the ledger decides
    /// one while it makes its predecessor durable. Batches are decided in the order of the calls.
    pub max_in_flight: usize,
    /// Whether lanes also change without a call of this process: other processes use the ledger, or
    /// two tiers exchange what they decided. Then services look for changes from time to time.
    pub is_shared: bool,
    /// How long keys and nonces are kept; `None` for as long as their activity.
    pub key_retention: Option<Duration>,
}

/// Whether [`Ledger::open`] opened the activity or found it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Opened by this call.
    Now,
    /// Already open with the same terms.
    Before,
}

/// The id that [`Ledger::locate`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An order.
    Order(OrderId),
    /// A payment.
    Payment(PaymentId),
}

/// The outcome of [`Ledger::keep_unmatched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The capture is kept.
    Kept,
    /// The payment is known; advance this order instead.
    Known(OrderKey),
}

/// The name of a reader of outboxes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Consumer(pub Arc<str>);

impl Consumer {
    /// Creates a consumer name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}
