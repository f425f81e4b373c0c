//! Commands and queries: what a ledger can be told and asked, as values.
//!
//! Whatever stands in front of a ledger passes them on without knowing them. Callers use the typed
//! calls of [`LedgerCalls`](super::LedgerCalls), which say what each does.

use std::sync::Arc;

use super::{
    Adjusted, Adjustment, AdjustmentId, Advance, Advances, BatchId, Bucket, Change, ChangeId, Chunk,
    Consumer, Due, Entry, Epoch, Kept, Lane, NextEpoch, Opened, PaymentRef, PersistMode, Position,
    RefundTask, Reservations, Reserve, Stock, Terms, TimeStep, Transfer, Verdict, View,
};
use crate::domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, UserId};

/// One atomic step of a ledger: the arguments of a call.
#[allow(missing_docs, reason = "the call documents each argument")]
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To [`open`](super::LedgerCalls::open).
    Open(Arc<Terms>),
    /// To [`amend`](super::LedgerCalls::amend).
    Amend { activity: ActivityId, id: ChangeId, change: Change, by: Attribution },
    /// To [`adjust`](super::LedgerCalls::adjust).
    Adjust(Adjustment),
    /// To [`step_time`](super::LedgerCalls::step_time).
    StepTime(TimeStep),
    /// To [`reserve`](super::LedgerCalls::reserve).
    Reserve { lane: Lane, epoch: Option<Epoch>, requests: Vec<Reserve> },
    /// To [`advance`](super::LedgerCalls::advance).
    Advance { lane: Lane, steps: Vec<Advance> },
    /// To [`expire_due`](super::LedgerCalls::expire_due).
    ExpireDue { lane: Lane, limit: usize },
    /// To [`send`](super::LedgerCalls::send).
    Send { lane: Lane, to: Bucket, sku: SkuId, units: u32 },
    /// To [`receive`](super::LedgerCalls::receive).
    Receive(Transfer),
    /// To [`forget`](super::LedgerCalls::forget).
    Forget(Transfer),
    /// To [`keep_unmatched`](super::LedgerCalls::keep_unmatched).
    KeepUnmatched { lane: Lane, capture: Capture },
    /// To [`archive`](super::LedgerCalls::archive).
    Archive(ActivityId),
    /// To [`register`](super::LedgerCalls::register).
    Register(Consumer),
    /// To [`retire`](super::LedgerCalls::retire).
    Retire(Consumer),
    /// To [`ack`](super::LedgerCalls::ack).
    Ack { consumer: Consumer, lane: Lane, position: Position },
    /// To [`close`](super::LedgerCalls::close).
    Close { activity: ActivityId, epoch: Epoch },
    /// To [`load`](super::LedgerCalls::load).
    Load { activity: ActivityId, epoch: Epoch, chunk: Box<Chunk> },
    /// To [`reopen`](super::LedgerCalls::reopen).
    Reopen { activity: ActivityId, epoch: Epoch, batch: BatchId },
    /// To [`follow`](super::LedgerCalls::follow).
    Follow { lane: Lane, entries: Vec<Entry> },
    /// To [`persist`](super::LedgerCalls::persist).
    Persist { lane: Lane, mode: PersistMode, entries: Vec<Entry> },
    /// To [`next_epoch`](super::LedgerCalls::next_epoch).
    NextEpoch { activity: ActivityId, expected: Epoch },
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a command that returns nothing.
    Done,
    /// Of [`open`](super::LedgerCalls::open).
    Opened(Opened),
    /// Of [`adjust`](super::LedgerCalls::adjust).
    Adjusted(Adjusted),
    /// Of [`reserve`](super::LedgerCalls::reserve).
    Reserved(Reservations),
    /// Of [`advance`](super::LedgerCalls::advance).
    Advanced(Advances),
    /// Of [`expire_due`](super::LedgerCalls::expire_due).
    Due(Due),
    /// Of [`send`](super::LedgerCalls::send).
    Sent(Option<Transfer>),
    /// Of [`receive`](super::LedgerCalls::receive).
    Received(bool),
    /// Of [`keep_unmatched`](super::LedgerCalls::keep_unmatched).
    Kept(Kept),
    /// Of [`archive`](super::LedgerCalls::archive).
    Archived(bool),
    /// Of [`persist`](super::LedgerCalls::persist).
    Persisted(Vec<Verdict>),
    /// Of [`next_epoch`](super::LedgerCalls::next_epoch).
    NextEpoch(NextEpoch),
}

/// A question to a ledger, which changes nothing: the arguments of a call.
#[allow(missing_docs, reason = "the call documents each argument")]
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// What is asked by [`transfers`](super::LedgerCalls::transfers).
    Transfers(Lane),
    /// What is asked by [`activities`](super::LedgerCalls::activities).
    Activities,
    /// What is asked by [`terms`](super::LedgerCalls::terms).
    Terms(ActivityId),
    /// What is asked by [`stock`](super::LedgerCalls::stock).
    Stock { activity: ActivityId, sku: SkuId },
    /// What is asked by [`view`](super::LedgerCalls::view).
    View(Lane),
    /// What is asked by [`order`](super::LedgerCalls::order).
    Order(OrderKey),
    /// What is asked by [`orders_of`](super::LedgerCalls::orders_of).
    OrdersOf { user: UserId, after: Option<OrderId>, limit: usize },
    /// What is asked by [`order_of_payment`](super::LedgerCalls::order_of_payment).
    OrderOfPayment(PaymentRef),
    /// What is asked by [`locate`](super::LedgerCalls::locate).
    Locate { activity: Option<ActivityId>, order: OrderId },
    /// What is asked by [`adjustment`](super::LedgerCalls::adjustment).
    Adjustment { activity: ActivityId, id: AdjustmentId },
    /// What is asked by [`refunds_due`](super::LedgerCalls::refunds_due).
    RefundsDue { lane: Lane, after: Option<OrderKey>, limit: usize },
    /// What is asked by [`events`](super::LedgerCalls::events).
    Events { consumer: Consumer, lane: Lane, from: Option<Position>, limit: usize },
    /// What is asked by [`open_epoch`](super::LedgerCalls::open_epoch).
    OpenEpoch(ActivityId),
    /// What is asked by [`followed`](super::LedgerCalls::followed).
    Followed(Lane),
    /// What is asked by [`position`](super::LedgerCalls::position).
    Position(Lane),
    /// What is asked by [`epoch`](super::LedgerCalls::epoch).
    Epoch(ActivityId),
    /// What is asked by [`content`](super::LedgerCalls::content).
    Content { activity: ActivityId, after: Option<OrderKey>, limit: usize },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Of [`transfers`](super::LedgerCalls::transfers).
    Transfers(Vec<Transfer>),
    /// Of [`activities`](super::LedgerCalls::activities).
    Activities(Vec<ActivityId>),
    /// Of [`terms`](super::LedgerCalls::terms).
    Terms(Option<Arc<Terms>>),
    /// Of [`stock`](super::LedgerCalls::stock).
    Stock(Option<Stock>),
    /// Of [`view`](super::LedgerCalls::view).
    View(View),
    /// Of [`order`](super::LedgerCalls::order).
    Order(Option<Order>),
    /// Of [`orders_of`](super::LedgerCalls::orders_of).
    Orders(Vec<Order>),
    /// Of [`order_of_payment`](super::LedgerCalls::order_of_payment) and
    /// [`locate`](super::LedgerCalls::locate).
    Located(Option<OrderKey>),
    /// Of [`adjustment`](super::LedgerCalls::adjustment).
    Adjustment(Option<(SkuId, i64)>),
    /// Of [`refunds_due`](super::LedgerCalls::refunds_due).
    RefundsDue(Vec<RefundTask>),
    /// Of [`events`](super::LedgerCalls::events).
    Events(Vec<Entry>),
    /// Of [`open_epoch`](super::LedgerCalls::open_epoch).
    OpenEpoch(Option<Epoch>),
    /// Of [`followed`](super::LedgerCalls::followed) and [`position`](super::LedgerCalls::position).
    Position(Position),
    /// Of [`epoch`](super::LedgerCalls::epoch).
    Epoch(Epoch),
    /// Of [`content`](super::LedgerCalls::content).
    Content(Chunk),
}

impl Command {
    /// The activity that it is about; `None` if it is about all.
    pub fn activity(&self) -> Option<ActivityId> {
        Some(match self {
            Self::Open(terms) => terms.activity(),
            Self::Adjust(adjustment) => adjustment.activity,
            Self::Receive(transfer) | Self::Forget(transfer) => transfer.activity,
            Self::Reserve { lane, .. }
            | Self::Advance { lane, .. }
            | Self::ExpireDue { lane, .. }
            | Self::Send { lane, .. }
            | Self::KeepUnmatched { lane, .. }
            | Self::Ack { lane, .. }
            | Self::Follow { lane, .. }
            | Self::Persist { lane, .. } => lane.activity,
            Self::Amend { activity, .. }
            | Self::Archive(activity)
            | Self::Close { activity, .. }
            | Self::Load { activity, .. }
            | Self::Reopen { activity, .. }
            | Self::NextEpoch { activity, .. } => *activity,
            Self::StepTime(_) | Self::Register(_) | Self::Retire(_) => return None,
        })
    }

    /// The number of items of a batch; 1 for a command that has no items.
    pub fn items(&self) -> usize {
        match self {
            Self::Reserve { requests, .. } => requests.len(),
            Self::Advance { steps, .. } => steps.len(),
            _ => 1,
        }
    }
}

impl Query {
    /// The activity that it is about; `None` if it is about all.
    pub fn activity(&self) -> Option<ActivityId> {
        Some(match self {
            Self::Order(key) => key.activity,
            Self::OrderOfPayment(payment) => payment.lane.activity,
            Self::Transfers(lane)
            | Self::View(lane)
            | Self::RefundsDue { lane, .. }
            | Self::Events { lane, .. }
            | Self::Followed(lane)
            | Self::Position(lane) => lane.activity,
            Self::Terms(activity)
            | Self::Stock { activity, .. }
            | Self::Adjustment { activity, .. }
            | Self::OpenEpoch(activity)
            | Self::Epoch(activity)
            | Self::Content { activity, .. } => *activity,
            Self::Locate { activity, .. } => return *activity,
            Self::Activities | Self::OrdersOf { .. } => return None,
        })
    }
}
