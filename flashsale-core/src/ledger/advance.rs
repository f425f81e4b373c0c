//! Advance: everything that happens to an order after it is created.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Attribution, Capture, Order, OrderId, OrderKey, OrderStatus, PaymentId, Provider, RefundOrder,
    RefundReason, RefundStatus, ReversalReport, Timestamp,
};

/// A step in an order's life cycle. The key names the owner; orders of other users are not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Opens a payment, before the provider is called. A payment id opens at most once. The 33rd
    /// payment of an order is answered with `WrongState`.
    OpenPayment {
        /// The order.
        order: OrderKey,
        /// The payment id, fresh from a generator.
        payment: PaymentId,
        /// The provider that will take the money.
        provider: Provider,
        /// Whether the provider may capture it in parts. This is for captures kept until now.
        in_parts: bool,
    },
    /// The provider took money. A [repeated](Capture::repeats) report changes nothing.
    ///
    /// Some providers give the same event or transaction id to several payments. A report with an
    /// id that the lane knows from other money is accepted if its payment is open and the
    /// transaction is new for that payment. Otherwise it is a [`Conflict`](Advanced::Conflict).
    ///
    /// An amount other than the order's is refunded whole, unless the provider captures in parts.
    /// Then parts of the open payment add up: the order is paid once they reach its amount, and what
    /// is more than that is refunded. If the payment ends before, its parts are refunded.
    Capture {
        /// The order of the payment.
        order: OrderKey,
        /// The provider's report.
        capture: Capture,
        /// Whether the provider may capture a payment in parts.
        in_parts: bool,
        /// A fresh id for the order that replaces this one, if it expired and its offer retakes.
        replacement: OrderId,
    },
    /// The provider could not take the money.
    PaymentFailed {
        /// The order.
        order: OrderKey,
        /// The payment; ignored unless it is the open one.
        payment: PaymentId,
    },
    /// The provider confirmed that it will take no money for this payment.
    PaymentClosed {
        /// The order.
        order: OrderKey,
        /// The payment; ignored unless it is the open one.
        payment: PaymentId,
    },
    /// Cancels the order, for its buyer or an operator.
    Cancel {
        /// The order.
        order: OrderKey,
        /// The operator and the reason; `None` for the buyer.
        by: Option<Attribution>,
    },
    /// Refunds a paid order or a part of it, for an operator. A known key with the same content
    /// changes nothing, and neither does a refund with nothing left to refund or return.
    Refund {
        /// The order.
        order: OrderKey,
        /// Amount and units. Returned units can be sold again, and still count for limits.
        refund: RefundOrder,
        /// The operator and the reason.
        by: Attribution,
    },
    /// The provider sent money back by itself, or reports on a dispute.
    Reversal {
        /// The order of the payment.
        order: OrderKey,
        /// The provider's report.
        report: ReversalReport,
    },
    /// A refund was carried out, or the provider refused it.
    RefundSettled {
        /// The order that holds the receipt.
        order: OrderKey,
        /// The payment for which the money was taken.
        payment: PaymentId,
        /// The provider that took the money.
        provider: Provider,
        /// The provider's id of the refunded transaction.
        transaction: String,
        /// Which refund of that transaction: its index in
        /// [`Receipt::refunds`](crate::domain::Receipt::refunds).
        number: u32,
        /// Whether it was done or failed.
        outcome: RefundOutcome,
    },
}

impl Advance {
    /// Returns the order that the step concerns.
    pub fn order(&self) -> OrderKey {
        match self {
            Self::OpenPayment { order, .. }
            | Self::Capture { order, .. }
            | Self::PaymentFailed { order, .. }
            | Self::PaymentClosed { order, .. }
            | Self::Cancel { order, .. }
            | Self::Refund { order, .. }
            | Self::Reversal { order, .. }
            | Self::RefundSettled { order, .. } => *order,
        }
    }
}

/// The outcome of a refund at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefundOutcome {
    /// The money was returned.
    Done,
    /// The provider refused permanently.
    Failed,
}

impl From<RefundOutcome> for RefundStatus {
    fn from(outcome: RefundOutcome) -> Self {
        match outcome {
            RefundOutcome::Done => Self::Done,
            RefundOutcome::Failed => Self::Failed,
        }
    }
}

/// The outcome of one [`Advance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// The user has no such order, or the order no such payment or transaction.
    NotFound,
    /// A gate admitted the order, but the truth does not have it yet.
    NotPersisted,
    /// The step was taken; the order after it.
    Done(Box<Order>),
    /// The step was taken earlier or has no effect; the current order.
    Replayed(Box<Order>),
    /// The order's status does not allow the step.
    WrongState(OrderStatus),
    /// Too few units are left to open a payment under the pay-time strategy.
    SoldOut {
        /// The units that are left.
        available: u32,
    },
    /// The payment id belongs to another order, which happens if two generators share a worker id.
    IdTaken,
    /// The money was taken and must be refunded; the order that holds the receipt.
    RefundDue(Box<Order>, RefundReason),
    /// The order had expired; this new, paid order replaces it.
    Retaken(Box<Order>),
    /// A report contradicts what is known: its event or transaction id belongs to other money, or
    /// more would go back than was taken. Nothing was changed: a person has to decide.
    Conflict,
    /// The order has less left to refund or to return.
    TooMuch {
        /// The amount left, in minor units of the order's currency.
        amount: u64,
        /// The units left.
        units: u32,
    },
    /// The key belongs to another refund of the order.
    KeyReused,
}

impl Advanced {
    /// The names of all outcomes.
    pub const NAMES: [&'static str; 12] = [
        "not_found",
        "not_persisted",
        "done",
        "replayed",
        "wrong_state",
        "sold_out",
        "id_taken",
        "refund_due",
        "retaken",
        "conflict",
        "too_much",
        "key_reused",
    ];

    /// Returns its index in [`Self::NAMES`].
    pub const fn metric_index(&self) -> usize {
        match self {
            Self::NotFound => 0,
            Self::NotPersisted => 1,
            Self::Done(_) => 2,
            Self::Replayed(_) => 3,
            Self::WrongState(_) => 4,
            Self::SoldOut { .. } => 5,
            Self::IdTaken => 6,
            Self::RefundDue(..) => 7,
            Self::Retaken(_) => 8,
            Self::Conflict => 9,
            Self::TooMuch { .. } => 10,
            Self::KeyReused => 11,
        }
    }

    /// Returns the order after the step, if the step found it.
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Done(order) | Self::Replayed(order) | Self::RefundDue(order, _) | Self::Retaken(order) => {
                Some(order)
            }
            _ => None,
        }
    }
}

/// The answer to a batch of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advances {
    /// The lane's time of the decision.
    pub at: Timestamp,
    /// The outcomes, in the order of the steps.
    pub outcomes: Vec<Advanced>,
}

/// A payment to be closed at its provider because its time is over.
///
/// It is claimed until the retry time: its receiver calls the provider and then advances with
/// [`Advance::PaymentClosed`] or [`Advance::Capture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The order.
    pub order: OrderKey,
    /// The payment.
    pub payment: PaymentId,
    /// The provider.
    pub provider: Provider,
    /// The time at which it is handed out again.
    pub retry_at: Timestamp,
}

/// What was due in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The lane's time of the decision.
    pub at: Timestamp,
    /// The orders expired by this call.
    pub expired: Vec<OrderKey>,
    /// The payments to close.
    pub closing: Vec<Closing>,
    /// The next deadline; `None` if nothing has one.
    pub next: Option<Timestamp>,
}

/// A refund that is due. The order, the transaction and the number identify it for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundTask {
    /// The order that holds the receipt.
    pub order: OrderKey,
    /// The transaction.
    pub capture: Capture,
    /// Which refund of that transaction: its index in
    /// [`Receipt::refunds`](crate::domain::Receipt::refunds). Default 0.
    #[serde(default)]
    pub number: u32,
    /// The amount in minor units of the capture's currency. It can shrink while the refund is due.
    #[serde(default)]
    pub amount: u64,
    /// The reason.
    pub reason: RefundReason,
}
