//! Events: what happened, written in the same atomic step as the change that they report.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AdjustmentId, Change, Position, Terms, Transfer};
use crate::domain::{
    Attribution, Capture, Idempotency, Money, OrderId, PaymentId, PaymentStatus, Provider, Quantity,
    RefundReason, RefundStatus, SkuId, Subjects, Timestamp, UserId, text::Bounded,
};

/// The number of a live change of an activity's terms. Later changes have higher numbers; of two changes of the same
/// thing the one with the higher number holds, in whatever order a lane sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub u64);

/// An entry of a lane's outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When the lane decided it.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What happened in a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The lane began with these terms.
    Opened(Arc<Terms>),
    /// A gate's lane began again, in a new epoch, with content loaded from the truth.
    Reopened,
    /// The truth counts a new epoch from here on.
    EpochTaken,
    /// The activity's terms changed.
    Amended {
        /// The number of the change.
        id: ChangeId,
        /// What changed.
        change: Change,
        /// Who did it and why.
        by: Attribution,
    },
    /// Units were added or taken away.
    Adjusted {
        /// The id of the adjustment.
        id: AdjustmentId,
        /// The offer.
        sku: SkuId,
        /// By how many units.
        delta: i64,
        /// Who did it and why.
        by: Attribution,
    },
    /// The truth did not take an adjustment that its gate had taken.
    AdjustmentRefused {
        /// The id of the adjustment.
        id: AdjustmentId,
        /// The offer.
        sku: SkuId,
    },
    /// Units left for another bucket.
    Sent(Transfer),
    /// Units came from another bucket.
    Received(Transfer),
    /// A transfer is known to have arrived for good.
    Forgotten(Transfer),
    /// Something happened to an order.
    Order {
        /// The order.
        id: OrderId,
        /// Its owner.
        user: UserId,
        /// What happened.
        change: OrderChange,
    },
}

/// What happened to an order. The variants are part of the journal's format: new ones are only added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderChange {
    /// It was made.
    Placed(Placed),
    /// The truth did not take it; it stands as refused, and keeps key and nonce.
    Refused(Placed),
    /// A payment was opened.
    PaymentOpened {
        /// The payment.
        payment: PaymentId,
        /// Who takes the money.
        provider: Provider,
        /// When the payment will be closed.
        deadline: Timestamp,
    },
    /// The open payment failed or was closed; the order is pending again.
    PaymentEnded {
        /// The payment.
        payment: PaymentId,
        /// Failed or closed.
        status: PaymentStatus,
    },
    /// It was paid.
    Paid(Capture),
    /// It was made, paid, in place of an expired one.
    Retaken {
        /// What was ordered.
        placed: Placed,
        /// The expired order.
        replaces: OrderId,
        /// What paid for it.
        capture: Capture,
    },
    /// Money was taken that has to go back.
    RefundDue {
        /// What was taken.
        capture: Capture,
        /// Why it goes back.
        reason: RefundReason,
    },
    /// An operator decided that the money of the paid order goes back.
    Refunded {
        /// Whether its units can be sold again.
        units_returned: bool,
        /// Who decided it and why.
        by: Attribution,
    },
    /// A refund was carried out or refused.
    RefundSettled {
        /// Who took the money.
        provider: Provider,
        /// The provider's id of the movement of money.
        transaction: Bounded<128>,
        /// Done or failed.
        status: RefundStatus,
    },
    /// The payment was handed out to be closed.
    ClosingClaimed {
        /// When it is handed out again.
        retry_at: Timestamp,
    },
    /// Its buyer gave it up.
    Cancelled,
    /// It was not paid in time.
    Expired,
    /// An operator gave it up.
    CancelledBy(Attribution),
}

/// What an order is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// What is bought.
    pub sku: SkuId,
    /// How many.
    pub quantity: Quantity,
    /// Price times quantity.
    pub amount: Money,
    /// The key and nonce that made it; `None` for an order that replaces another.
    pub idempotency: Option<Idempotency>,
    /// Device and address that limits count.
    pub subjects: Subjects,
    /// When it was admitted: at the gate, if there is one.
    pub placed_at: Timestamp,
    /// When it expires; `None` for never, and at a gate.
    pub deadline: Option<Timestamp>,
}
