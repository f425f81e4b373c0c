//! Advance: everything that happens to an order after it was made.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Attribution, Capture, Order, OrderId, OrderKey, OrderStatus, PaymentId, Provider, RefundReason,
    RefundStatus, Timestamp,
};

/// A step in an order's life. The key names the owner; an order of somebody else is not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Opens a payment, before the provider is called. A payment id opens at most once; an order has at most 32 payments,
    /// and answers `WrongState` to a further one.
    OpenPayment {
        /// The order.
        order: OrderKey,
        /// The payment's id, fresh from a generator.
        payment: PaymentId,
        /// Who will take the money.
        provider: Provider,
    },
    /// The provider took money. Deduplicated by (provider, event) and by (provider, transaction).
    Capture {
        /// The order of the payment.
        order: OrderKey,
        /// What the provider reported.
        capture: Capture,
        /// The id of the order to make if this one expired and its offer retakes; fresh from a generator.
        replacement: OrderId,
    },
    /// The provider could not take the money.
    PaymentFailed {
        /// The order.
        order: OrderKey,
        /// Which payment; another than the open one changes nothing.
        payment: PaymentId,
    },
    /// The provider promised to take no money for this payment any more.
    PaymentClosed {
        /// The order.
        order: OrderKey,
        /// Which payment; another than the open one changes nothing.
        payment: PaymentId,
    },
    /// The buyer or an operator gives the order up.
    Cancel {
        /// The order.
        order: OrderKey,
        /// Which operator and why; `None` for the buyer.
        by: Option<Attribution>,
    },
    /// An operator sends the money of a paid order back.
    Refund {
        /// The order.
        order: OrderKey,
        /// Whether its units can be sold again. Limits are not given back.
        units_returned: bool,
        /// Who decided it and why.
        by: Attribution,
    },
    /// A refund was carried out, or the provider refused it.
    RefundSettled {
        /// The order that holds the receipt.
        order: OrderKey,
        /// Who took the money.
        provider: Provider,
        /// The provider's id of the movement of money that is refunded.
        transaction: String,
        /// Done or failed.
        outcome: RefundOutcome,
    },
}

impl Advance {
    /// The order that the step concerns.
    pub fn order(&self) -> OrderKey {
        match self {
            Self::OpenPayment { order, .. }
            | Self::Capture { order, .. }
            | Self::PaymentFailed { order, .. }
            | Self::PaymentClosed { order, .. }
            | Self::Cancel { order, .. }
            | Self::Refund { order, .. }
            | Self::RefundSettled { order, .. } => *order,
        }
    }
}

/// How a refund ended at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefundOutcome {
    /// The money went back.
    Done,
    /// The provider refused for good.
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
    /// There is no such order of this user, or no such payment or transaction of the order.
    NotFound,
    /// The order is admitted by a gate, and the truth does not have it yet.
    NotPersisted,
    /// The step was taken; the order as it stands after it.
    Done(Box<Order>),
    /// The step was taken before or changes nothing; the order as it stands.
    Replayed(Box<Order>),
    /// The order's status does not allow the step.
    WrongState(OrderStatus),
    /// A payment under the pay-time strategy finds too few units.
    SoldOut {
        /// How many there are.
        available: u32,
    },
    /// The id of the payment belongs to another order: two generators share a worker id.
    IdTaken,
    /// The money was taken and has to go back; the order that holds the receipt.
    RefundDue(Box<Order>, RefundReason),
    /// The order had expired, and this new, paid order replaces it.
    Retaken(Box<Order>),
}

impl Advanced {
    /// The words of all outcomes.
    pub const WORDS: [&'static str; 9] = [
        "not_found",
        "not_persisted",
        "done",
        "replayed",
        "wrong_state",
        "sold_out",
        "id_taken",
        "refund_due",
        "retaken",
    ];

    /// Its place in [`Self::WORDS`].
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
        }
    }

    /// The order as it stands after the step, if the step found it.
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
    /// The time at which the lane decided.
    pub at: Timestamp,
    /// One outcome for each step, in their order.
    pub outcomes: Vec<Advanced>,
}

/// A payment that has to be closed at its provider, because its time is over.
///
/// It is claimed until the retry time: who got it calls the provider and then advances with
/// [`Advance::PaymentClosed`] or [`Advance::Capture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The order.
    pub order: OrderKey,
    /// The payment.
    pub payment: PaymentId,
    /// Whom to ask.
    pub provider: Provider,
    /// When it is handed out again.
    pub retry_at: Timestamp,
}

/// What was due in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The time at which the lane decided.
    pub at: Timestamp,
    /// Orders that have expired by this call.
    pub expired: Vec<OrderKey>,
    /// Payments to be closed.
    pub closing: Vec<Closing>,
    /// When something is due next; `None` if nothing has a deadline.
    pub next: Option<Timestamp>,
}

/// Money that has to go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundTask {
    /// The order that holds the receipt.
    pub order: OrderKey,
    /// The transaction to refund, whole.
    pub capture: Capture,
    /// Why.
    pub reason: RefundReason,
}
