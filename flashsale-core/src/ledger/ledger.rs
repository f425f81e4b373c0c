//! The contract of ledgers.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Adjusted, Adjustment, Advance, Advances, Bucket, Change, ChangeId, Due, Entry, Epoch, Lane, LedgerError,
    Position, RefundTask, Reservations, Reserve, Stock, Terms, Transfer, View,
};
use crate::domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, PaymentId, SkuId, UserId};

/// What keeps stock, limits and orders of offers.
///
/// # Contract
/// - **Atomic.** One call is one atomic step of one lane. The items of a batch are decided in their order, each sees
///   what its predecessors did, and the batch commits whole or not at all. Events are written in the same step.
///   Methods that name an activity instead of a lane ([`open`](Ledger::open), [`amend`](Ledger::amend)) take such a step
///   in each lane; when they fail in between, the same call goes on where it stopped.
/// - **Answered after the commit.** What an answer says, declined requests included, survives whatever the ledger
///   promises to survive.
/// - **Repeatable.** Every method may be repeated with the same ids after an indefinite error, and then answers what
///   became of the first call.
/// - **Dropped futures.** Dropping a future before it is ready may or may not take the step, and never half of it.
/// - **Time** is `max(last, now)` in each lane, from one deciding clock; every answer carries it. After a restart `last` is
///   the time of the lane's last entry.
/// - **Numbers.** The events of a lane are numbered from 1 without gaps.
/// - **Errors** concern the whole call; see [`LedgerError`] for what they let a caller conclude.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// What the ledger bounds.
    fn bounds(&self) -> Bounds;

    // Opening and changing activities.

    /// Opens an activity in all its lanes. The same terms again change nothing; they are compared with those of the
    /// first opening.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the activity is open with other terms; a gate is opened by
    /// [`reopen`](super::Gate::reopen).
    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError>;

    /// Changes an activity in all its lanes. A change that a lane knows, or that is older than what the lane has, leaves
    /// the terms as they are.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the terms would not be valid, [`LedgerError::NotOpen`].
    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError>;

    /// Adds units to an offer or takes available ones away, in the activity's first lane. `Insufficient` is that
    /// lane's answer: the caller first sends units there from other lanes.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a delta of 0 or beyond ±10⁹;
    /// [`LedgerError::NotDeciding`] for a positive delta at a gate.
    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError>;

    // Deciding.

    /// Decides requests for units, with the precedence of [`Outcome`](super::Outcome).
    ///
    /// `epoch` is what the caller takes to be the epoch of the activity; another one is answered `NotReady`. `None`
    /// does not compare. An activity that is not open is answered `NotReady`.
    ///
    /// # Errors
    /// Those of the store.
    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError>;

    /// Takes steps in the life of orders: the status table of the design, cell by cell.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate.
    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError>;

    /// Expires orders whose time is over and hands out payments to be closed, at most `limit` of both together, the
    /// longest overdue first.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate.
    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError>;

    // Units between buckets.

    /// Takes at most `units` available units of an offer out of a lane, for another bucket. `None` if there are none.
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

    /// Adds a transfer to its destination, once; a transfer that is not the next of its source is not taken.
    /// Answers whether the destination has it.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a transfer that no bucket of the activity can have sent;
    /// [`LedgerError::Moved`] for one of another epoch.
    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError>;

    /// Lets the source forget a transfer whose arrival is durable.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError>;

    /// The transfers out of a lane that are not forgotten, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError>;

    // Reading.

    /// The activities that are open here.
    ///
    /// # Errors
    /// Those of the store.
    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError>;

    /// The terms of an activity as they are now, if it is open here.
    ///
    /// # Errors
    /// Those of the store.
    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError>;

    /// The units of an offer: a sum over the lanes, not a snapshot. `None` if there is no such offer.
    ///
    /// # Errors
    /// Those of the store.
    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError>;

    /// One lane at one moment, for declining without asking.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn view(&self, lane: Lane) -> Result<View, LedgerError>;

    /// An order of the user whom the key names; an order of somebody else is not found.
    ///
    /// # Errors
    /// Those of the store.
    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError>;

    /// The orders of a user over all activities, highest id first, below `after`.
    ///
    /// # Errors
    /// Those of the store.
    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError>;

    /// Finds out where an order or a payment is.
    ///
    /// # Errors
    /// Those of the store.
    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError>;

    /// Whether an adjustment is in force, and with what delta.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &super::AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError>;

    /// The refunds that are due of at most `limit` orders of a lane, behind the order `after`, in an order of the ledger's
    /// choice that does not change while a caller pages through it.
    ///
    /// # Errors
    /// Those of the store.
    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError>;

    // Captures without an order.

    /// Keeps a verified capture whose payment is unknown. It is applied when a payment with that id opens, in the same
    /// step. A capture that was kept before is kept once.
    ///
    /// # Errors
    /// Those of the store.
    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError>;

    // Outbox.

    /// Makes a consumer known: from here on entries are kept until it has acknowledged them. Known consumers stay as they
    /// are.
    ///
    /// # Errors
    /// Those of the store.
    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError>;

    /// Forgets a consumer: nothing is kept for it any more.
    ///
    /// # Errors
    /// Those of the store.
    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError>;

    /// Entries of a lane, oldest first, at most `limit`. With `from` they start at its sequence, that entry included: a
    /// reader that finds another batch id there, or no entry, has read another history. Without it they start at the last
    /// entry that the consumer acknowledged, that entry included, or at the oldest.
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

    /// Acknowledges all entries up to a position. A position that is not there does nothing, one that is behind the last
    /// acknowledged one neither. Entries behind the slowest consumer may be dropped; its last acknowledged one is kept.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if the consumer is not registered.
    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError>;
}

/// What a ledger bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most items of one batch.
    pub max_batch: usize,
    /// How many batches for one lane a process should have under way: 1, or more if the ledger decides one while it makes
    /// the one before durable. They are decided in the order in which the calls were begun.
    pub max_in_flight: usize,
    /// How long keys and nonces are kept; `None` for as long as their activity.
    pub key_retention: Option<Duration>,
}

/// Whether [`Ledger::open`] opened the activity or found it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// By this call.
    Now,
    /// It was open with the same terms.
    Before,
}

/// What [`Ledger::locate`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An order.
    Order(OrderId),
    /// A payment.
    Payment(PaymentId),
}

/// What became of a capture given to [`Ledger::keep_unmatched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Kept,
    /// The payment is known by now: advance this order instead.
    Known(OrderKey),
}

/// The name of a reader of outboxes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Consumer(pub Arc<str>);

impl Consumer {
    /// A consumer of that name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}
