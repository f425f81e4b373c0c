//! The calls of a ledger, one for each command and query.

use std::sync::Arc;

use super::{
    Adjusted, Adjustment, AdjustmentId, Advance, Advances, Answer, BatchId, Bucket, Change, ChangeId, Chunk,
    Command, Consumer, Due, Entry, Epoch, Kept, Lane, Ledger, LedgerError, NextEpoch, Opened, PaymentRef,
    PersistMode, Position, Query, RefundTask, Reply, Reservations, Reserve, Stock, Terms, TimeStep, Transfer,
    Verdict, View,
};
use crate::domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, UserId};

/// Sends a command and returns the content of the answer that belongs to it.
macro_rules! step {
    ($ledger:ident, $command:expr => Done) => {{
        let command = $command;
        async move {
            match $ledger.step(command).await? {
                Answer::Done => Ok(()),
                other => Err(unexpected(&other)),
            }
        }
    }};
    ($ledger:ident, $command:expr => $answer:ident) => {{
        let command = $command;
        async move {
            match $ledger.step(command).await? {
                Answer::$answer(answer) => Ok(answer),
                other => Err(unexpected(&other)),
            }
        }
    }};
}

/// Sends a query and returns the content of the reply that belongs to it.
macro_rules! read {
    ($ledger:ident, $query:expr => $reply:ident) => {{
        let query = $query;
        async move {
            match $ledger.read(query).await? {
                Reply::$reply(reply) => Ok(reply),
                other => Err(unexpected(&other)),
            }
        }
    }};
}

fn unexpected(answer: &dyn std::fmt::Debug) -> LedgerError {
    LedgerError::Unknown(format!("a bug of the ledger: it answered another command, with {answer:?}").into())
}

/// The calls of a [`Ledger`], typed. Every ledger has them; none can implement one differently.
///
/// A *gate* admits orders and follows a *truth* in everything else. Its content is loaded from the truth and
/// has an epoch. A gate decides [`reserve`](LedgerCalls::reserve), negative [`adjust`](LedgerCalls::adjust) and
/// transfers. It stores no deadlines, and its orders are not persisted until the truth says so.
/// [`open`](LedgerCalls::open), [`amend`](LedgerCalls::amend), [`advance`](LedgerCalls::advance),
/// [`expire_due`](LedgerCalls::expire_due) and [`keep_unmatched`](LedgerCalls::keep_unmatched) return
/// [`LedgerError::NotDeciding`] there.
///
/// To rebuild a gate: [`close`](LedgerCalls::close) it, persist what it still holds, take the next epoch
/// at the truth, [`load`](LedgerCalls::load) the content, then [`reopen`](LedgerCalls::reopen).
///
/// A truth has one lane per activity, the first, with all units. The terms' buckets are the gate's.
///
/// # Errors
/// Of several errors that apply, a call returns the first in this order:
/// 1. [`LedgerError::NotDeciding`], by the role of the ledger and the command;
/// 2. [`LedgerError::Invalid`], by the arguments alone;
/// 3. [`LedgerError::NotOpen`];
/// 4. [`LedgerError::Invalid`], by the arguments and the lane: a user of another lane, a bucket or offer that
///    it does not have, a consumer that is not registered, other terms;
/// 5. [`LedgerError::Moved`];
/// 6. [`LedgerError::Unavailable`], for an order that the lane's outbox has no room for.
///
/// Errors of the store may come at any time. They are definite only if nothing was done.
pub trait LedgerCalls: Ledger {
    // Opening and changing activities.

    /// Opens an activity in all its lanes. Has no effect if it was first opened with the same
    /// terms.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if it is open with other terms; [`LedgerError::NotDeciding`] at a
    /// gate, which [`reopen`](LedgerCalls::reopen) opens.
    fn open(&self, terms: Arc<Terms>) -> impl Future<Output = Result<Opened, LedgerError>> + Send {
        step!(self, Command::Open(terms) => Opened)
    }

    /// Changes an activity in all its lanes. A lane ignores a change that it has, or that is older
    /// than its latest change of the same thing.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if the new terms would be invalid; [`LedgerError::NotOpen`].
    fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Amend { activity, id, change, by } => Done)
    }

    /// Adds units to an offer or removes available ones, in the activity's first lane. On
    /// `Insufficient`, first [`send`](LedgerCalls::send) units to that lane from the others.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a delta of 0 or beyond ±10⁹;
    /// [`LedgerError::NotDeciding`] for a positive delta at a gate.
    fn adjust(&self, adjustment: Adjustment) -> impl Future<Output = Result<Adjusted, LedgerError>> + Send {
        step!(self, Command::Adjust(adjustment) => Adjusted)
    }

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
    fn step_time(&self, step: TimeStep) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::StepTime(step) => Done)
    }

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
    fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> impl Future<Output = Result<Reservations, LedgerError>> + Send {
        step!(self, Command::Reserve { lane, epoch, requests: batch } => Reserved)
    }

    /// Takes steps in the life cycle of orders.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate; [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] outside the
    /// order's lane.
    fn advance(
        &self,
        lane: Lane,
        batch: Vec<Advance>,
    ) -> impl Future<Output = Result<Advances, LedgerError>> + Send {
        step!(self, Command::Advance { lane, steps: batch } => Advanced)
    }

    /// Expires overdue orders and hands out payments to close: at most `limit`, longest overdue
    /// first. Of those with the same deadline, the order that came into the lane first is first.
    ///
    /// # Errors
    /// [`LedgerError::NotDeciding`] at a gate; [`LedgerError::NotOpen`].
    fn expire_due(&self, lane: Lane, limit: usize) -> impl Future<Output = Result<Due, LedgerError>> + Send {
        step!(self, Command::ExpireDue { lane, limit } => Due)
    }

    // Transfers between buckets.

    /// Takes up to `units` units of an offer out of a lane for another bucket; `None` if it has
    /// none.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if `to` is not another bucket of the activity.
    fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> impl Future<Output = Result<Option<Transfer>, LedgerError>> + Send {
        step!(self, Command::Send { lane, to, sku, units } => Sent)
    }

    /// Adds a transfer to its destination, once and only in the order of the source's numbers.
    /// Returns whether the destination has it.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] for a transfer that no bucket can have
    /// sent; [`LedgerError::Moved`] for another epoch.
    fn receive(&self, transfer: Transfer) -> impl Future<Output = Result<bool, LedgerError>> + Send {
        step!(self, Command::Receive(transfer) => Received)
    }

    /// Makes the source forget a transfer whose arrival is durable. Has no effect on others, which
    /// two tiers may need a moment to make durable: repeat it while [`transfers`](LedgerCalls::transfers)
    /// returns the transfer.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn forget(&self, transfer: Transfer) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Forget(transfer) => Done)
    }

    /// Returns the transfers out of a lane that are not forgotten, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn transfers(&self, lane: Lane) -> impl Future<Output = Result<Vec<Transfer>, LedgerError>> + Send {
        read!(self, Query::Transfers(lane) => Transfers)
    }

    // Reading.

    /// Returns the activities that are open.
    ///
    /// # Errors
    /// Errors of the store.
    fn activities(&self) -> impl Future<Output = Result<Vec<ActivityId>, LedgerError>> + Send {
        read!(self, Query::Activities => Activities)
    }

    /// Returns the current terms of an activity, if it is open.
    ///
    /// # Errors
    /// Errors of the store.
    fn terms(
        &self,
        activity: ActivityId,
    ) -> impl Future<Output = Result<Option<Arc<Terms>>, LedgerError>> + Send {
        read!(self, Query::Terms(activity) => Terms)
    }

    /// Returns the units of an offer, summed over lanes without a snapshot; `None` if unknown.
    ///
    /// # Errors
    /// Errors of the store.
    fn stock(
        &self,
        activity: ActivityId,
        sku: SkuId,
    ) -> impl Future<Output = Result<Option<Stock>, LedgerError>> + Send {
        read!(self, Query::Stock { activity, sku } => Stock)
    }

    /// Returns a view of a lane, for declining requests locally.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn view(&self, lane: Lane) -> impl Future<Output = Result<View, LedgerError>> + Send {
        read!(self, Query::View(lane) => View)
    }

    /// Returns an order of the user in the key; orders of other users are not found.
    ///
    /// # Errors
    /// Errors of the store.
    fn order(&self, key: OrderKey) -> impl Future<Output = Result<Option<Order>, LedgerError>> + Send {
        read!(self, Query::Order(key) => Order)
    }

    /// Returns the orders of a user in all activities with ids below `after`, highest id first.
    ///
    /// # Errors
    /// Errors of the store.
    fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Order>, LedgerError>> + Send {
        read!(self, Query::OrdersOf { user, after, limit } => Orders)
    }

    /// Returns the key of the order of a payment, if the payment is in the lane that its reference names.
    ///
    /// # Errors
    /// Errors of the store.
    fn order_of_payment(
        &self,
        payment: PaymentRef,
    ) -> impl Future<Output = Result<Option<OrderKey>, LedgerError>> + Send {
        read!(self, Query::OrderOfPayment(payment) => Located)
    }

    /// Finds an order without its buyer, for the search of an operator: in one activity, or in all. It may be
    /// slow. Ids of orders are unique only per activity and buyer, so it may return any order with the id.
    ///
    /// # Errors
    /// Errors of the store.
    fn locate(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> impl Future<Output = Result<Option<OrderKey>, LedgerError>> + Send {
        read!(self, Query::Locate { activity, order } => Located)
    }

    /// Returns the SKU and delta of an adjustment that is in force.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> impl Future<Output = Result<Option<(SkuId, i64)>, LedgerError>> + Send {
        read!(self, Query::Adjustment { activity, id: id.clone() } => Adjustment)
    }

    /// Returns the due refunds of up to `limit` orders of a lane, starting after the order `after`.
    /// The ledger chooses the order of the list, which is stable while a caller pages.
    ///
    /// # Errors
    /// Errors of the store.
    fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RefundTask>, LedgerError>> + Send {
        read!(self, Query::RefundsDue { lane, after, limit } => RefundsDue)
    }

    // Captures without an order.

    /// Keeps a verified capture of a payment that its lane does not know, once. It is applied in the same
    /// step in which a payment with that id opens in the lane.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::NotDeciding`] at a gate; errors of the store.
    fn keep_unmatched(
        &self,
        lane: Lane,
        capture: Capture,
    ) -> impl Future<Output = Result<Kept, LedgerError>> + Send {
        step!(self, Command::KeepUnmatched { lane, capture } => Kept)
    }

    // Archiving.

    /// Moves an activity to where it takes no memory, if it rests: it is over, and has no deadlines,
    /// refunds due, transfers, kept captures, or events that a consumer has not acknowledged. Returns
    /// whether it is there now.
    ///
    /// It is then not among the [`activities`](LedgerCalls::activities), and takes no step of time. Its
    /// terms, stock and orders are read as before, but more slowly. Any call that could change it
    /// brings it back first, which takes as long as it has orders.
    ///
    /// The default returns `false`, for ledgers that do not hold activities in memory.
    ///
    /// # Errors
    /// Errors of the store; the activity then stays where it is.
    fn archive(&self, activity: ActivityId) -> impl Future<Output = Result<bool, LedgerError>> + Send {
        step!(self, Command::Archive(activity) => Archived)
    }

    // Outbox.

    /// Registers a consumer; entries are kept until it acknowledges them. Repeating has no effect.
    ///
    /// # Errors
    /// Errors of the store.
    fn register(&self, consumer: &Consumer) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Register(consumer.clone()) => Done)
    }

    /// Removes a consumer; entries are no longer kept for it.
    ///
    /// # Errors
    /// Errors of the store.
    fn retire(&self, consumer: &Consumer) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Retire(consumer.clone()) => Done)
    }

    /// Returns up to `limit` entries of a lane, oldest first, from `from` on, inclusively; without
    /// it, from the consumer's last acknowledged entry on, or the oldest. If the first entry is
    /// missing or has another batch id than `from`, the reader has read another history.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if the consumer is not registered.
    fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, LedgerError>> + Send {
        read!(self, Query::Events { consumer: consumer.clone(), lane, from, limit } => Events)
    }

    /// Acknowledges all entries up to a position. Ignores a position that is unknown or already
    /// passed. Entries before the last one that every consumer acknowledged may be deleted.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Invalid`] if the consumer is not registered.
    fn ack(
        &self,
        consumer: &Consumer,
        lane: Lane,
        position: Position,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Ack { consumer: consumer.clone(), lane, position } => Done)
    }

    // Gates: ledgers that admit orders and then follow a truth.

    /// Returns the epoch of the open content; `None` unless all lanes are open in it.
    ///
    /// # Errors
    /// Errors of the store.
    fn open_epoch(
        &self,
        activity: ActivityId,
    ) -> impl Future<Output = Result<Option<Epoch>, LedgerError>> + Send {
        read!(self, Query::OpenEpoch(activity) => OpenEpoch)
    }

    /// Closes content of `epoch` or an older one, for ever; requests then get `NotReady`. The outbox
    /// stays readable. An activity that the gate does not know counts as closed, and no trace remains.
    ///
    /// # Errors
    /// Errors of the store.
    fn close(
        &self,
        activity: ActivityId,
        epoch: Epoch,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Close { activity, epoch } => Done)
    }

    /// Loads a chunk of the truth's content for an epoch. Chunks arrive in order. The first one (without
    /// `after`) starts over: it closes the activity and removes all that it has, its outbox too. Repeating
    /// the last of several chunks has no effect.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if `epoch` is closed, or content of it or of a higher one is open or being
    /// loaded; [`LedgerError::Invalid`] for a chunk out of order.
    fn load(
        &self,
        activity: ActivityId,
        epoch: Epoch,
        chunk: Chunk,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Load { activity, epoch, chunk: Box::new(chunk) } => Done)
    }

    /// Opens the loaded content, and admits orders again. Units that no order holds are split evenly
    /// across the buckets. Each lane's outbox begins with
    /// [`Event::Reopened`](super::Event::Reopened) under the batch id that the truth recorded for
    /// the epoch. The gate follows from the position of the first chunk. Has no effect if `epoch`
    /// is open.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if `epoch` is closed, or a higher one is open; [`LedgerError::Invalid`] if
    /// chunks are missing.
    fn reopen(
        &self,
        activity: ActivityId,
        epoch: Epoch,
        batch: BatchId,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Reopen { activity, epoch, batch } => Done)
    }

    /// Applies entries of the truth's outbox without deciding, and stores the position in the same
    /// step. Ignores entries up to the stored position, orders that are as new or newer here, and
    /// users of other lanes. An entry of an order concerns the order with its id and its user, and
    /// the one linked with it by replacement; each is compared by its own revision. Missing units
    /// are owed: `available` becomes negative.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`], also while content is being loaded; [`LedgerError::Moved`] on a gap after
    /// the stored position.
    fn follow(
        &self,
        lane: Lane,
        entries: Vec<Entry>,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send {
        step!(self, Command::Follow { lane, entries } => Done)
    }

    /// Returns the position in the truth's outbox up to which a lane has followed.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn followed(&self, lane: Lane) -> impl Future<Output = Result<Position, LedgerError>> + Send {
        read!(self, Query::Followed(lane) => Position)
    }

    // Truths: durable ledgers that decide what gates admitted.

    /// Persists entries of a gate's outbox, and in the same step the position of the last one.
    ///
    /// An order is created with the offer's price and a hold that starts now, or stored as refused
    /// if its epoch is over or units, limits, key or nonce forbid it. The pay-time bound and the
    /// window are not checked again. An unknown SKU is refused without a trace. An adjustment takes
    /// effect or is refused. Other entries only move the position. A known order, which is one with the
    /// same id and user, keeps its verdict.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if `mode` names another position than the lane's, or the entries do not
    /// follow it without a gap. Among several nodes this is normal: another one persisted first.
    fn persist(
        &self,
        lane: Lane,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> impl Future<Output = Result<Vec<Verdict>, LedgerError>> + Send {
        step!(self, Command::Persist { lane, mode, entries } => Persisted)
    }

    /// Returns the position of the last persisted entry of a gate's lane.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn position(&self, lane: Lane) -> impl Future<Output = Result<Position, LedgerError>> + Send {
        read!(self, Query::Position(lane) => Position)
    }

    /// Returns the epoch of an activity; 0 if none was taken.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn epoch(&self, activity: ActivityId) -> impl Future<Output = Result<Epoch, LedgerError>> + Send {
        read!(self, Query::Epoch(activity) => Epoch)
    }

    /// Takes the next epoch if the current one is `expected`. From then on, orders of older epochs
    /// are refused, and the position of every lane is the first entry of a gate in the new epoch.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if the current epoch differs; [`LedgerError::NotOpen`].
    fn next_epoch(
        &self,
        activity: ActivityId,
        expected: Epoch,
    ) -> impl Future<Output = Result<NextEpoch, LedgerError>> + Send {
        step!(self, Command::NextEpoch { activity, expected } => NextEpoch)
    }

    /// Returns a chunk of an activity's content for loading a gate: `limit` orders after `after`,
    /// in an order chosen by the truth. Each chunk is its own snapshot. Orders carry revisions, so
    /// following from the first chunk's position yields the same content.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Chunk, LedgerError>> + Send {
        read!(self, Query::Content { activity, after, limit } => Content)
    }
}

impl<L: Ledger + ?Sized> LedgerCalls for L {}
