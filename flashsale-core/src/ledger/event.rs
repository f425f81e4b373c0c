//! Events, written in the same atomic step as the changes that they report.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AdjustmentId, Change, Position, StepId, Terms, Transfer};
use crate::domain::{
    Attribution, Capture, Idempotency, Money, OrderId, PaymentId, PaymentStatus, Provider, Quantity,
    RefundOrder, RefundReason, RefundStatus, ReversalReport, SkuId, Subjects, Timestamp, UserId,
    text::Bounded,
};

/// The number of a change of an activity's terms. Of two changes of the same thing, the one with
/// the higher number wins, in whatever order a lane sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub u64);

/// An entry of a lane's outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub position: Position,
    /// The lane's time of the decision.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
}

/// An event in a lane. Variants are part of the journal format: add new ones only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The lane opened with these terms.
    Opened(Arc<Terms>),
    /// A gate's lane reopened in a new epoch, with content loaded from the truth.
    Reopened,
    /// The truth started a new epoch.
    EpochTaken,
    /// The activity's terms changed.
    Amended {
        /// The number of the change.
        id: ChangeId,
        /// The change.
        change: Change,
        /// The operator and the reason.
        by: Attribution,
    },
    /// Units were added or removed.
    Adjusted {
        /// The id of the adjustment.
        id: AdjustmentId,
        /// The offer.
        sku: SkuId,
        /// The number of units added.
        delta: i64,
        /// The operator and the reason.
        by: Attribution,
    },
    /// The truth refused an adjustment that its gate had made.
    AdjustmentRefused {
        /// The id of the adjustment.
        id: AdjustmentId,
        /// The offer.
        sku: SkuId,
    },
    /// Units were sent to another bucket.
    Sent(Transfer),
    /// Units were received from another bucket.
    Received(Transfer),
    /// A transfer is known to have arrived durably.
    Forgotten(Transfer),
    /// An order changed.
    Order {
        /// The order.
        id: OrderId,
        /// The owner.
        user: UserId,
        /// The change.
        change: OrderChange,
    },
    /// The lane's time was stepped, and every open deadline with it. The entry's time is the one
    /// before the step.
    TimeStepped {
        /// The id of the step.
        id: StepId,
        /// By how many milliseconds deadlines moved; negative for back.
        by_ms: i64,
        /// The lane's time after the step.
        to: Timestamp,
        /// Who had it stepped, and why.
        by: Attribution,
    },
}

/// A change of an order. Variants are part of the journal format: add new ones only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderChange {
    /// It was placed.
    Placed(Placed),
    /// The truth refused it; it is stored as refused and keeps its key and nonce.
    Refused(Placed),
    /// A payment was opened.
    PaymentOpened {
        /// The payment.
        payment: PaymentId,
        /// The provider that takes the money.
        provider: Provider,
        /// When closing the payment becomes due.
        deadline: Timestamp,
    },
    /// The open payment failed or was closed; the order is pending again.
    PaymentEnded {
        /// The payment.
        payment: PaymentId,
        /// Whether it failed or was closed.
        status: PaymentStatus,
    },
    /// It was paid.
    Paid(Capture),
    /// It was created as paid, to replace an expired order.
    Retaken {
        /// The order's content.
        placed: Placed,
        /// The expired order.
        replaces: OrderId,
        /// The capture that paid for it.
        capture: Capture,
    },
    /// Money was taken that must be refunded.
    RefundDue {
        /// The captured money.
        capture: Capture,
        /// The reason for the refund.
        reason: RefundReason,
    },
    /// An operator refunded the whole order. Only in journals of versions that refunded no parts; now
    /// [`RefundOrdered`](Self::RefundOrdered).
    Refunded {
        /// Whether its units can be sold again.
        units_returned: bool,
        /// The operator and the reason.
        by: Attribution,
    },
    /// A refund was carried out or refused. Only in journals of versions that identified a refund
    /// by its transaction alone; now [`RefundEnded`](Self::RefundEnded).
    RefundSettled {
        /// The provider that took the money.
        provider: Provider,
        /// The provider's id of the transaction.
        transaction: Bounded<128>,
        /// Whether it was done or failed.
        status: RefundStatus,
    },
    /// The payment was handed out for closing.
    ClosingClaimed {
        /// The time at which it is handed out again.
        retry_at: Timestamp,
    },
    /// Its buyer cancelled it.
    Cancelled,
    /// It was not paid in time.
    Expired,
    /// An operator cancelled it.
    CancelledBy(Attribution),
    /// A refund was carried out or refused.
    RefundEnded {
        /// The payment for which the money was taken.
        payment: PaymentId,
        /// The provider that took the money.
        provider: Provider,
        /// The provider's id of the transaction.
        transaction: Bounded<128>,
        /// Which refund of the transaction.
        number: u32,
        /// Whether it was done or failed.
        status: RefundStatus,
    },
    /// It was placed with an amount of 0, and is paid thereby.
    PlacedFree(Placed),
    /// A part of the amount was taken; the rest is awaited.
    PartPaid(Capture),
    /// An operator refunded the paid order or a part of it.
    RefundOrdered {
        /// Amount and units.
        refund: RefundOrder,
        /// The operator and the reason.
        by: Attribution,
    },
    /// The provider sent money back by itself, or reported on a dispute.
    Reversed(ReversalReport),
}

/// The content of a new order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The SKU ordered.
    pub sku: SkuId,
    /// The number of units.
    pub quantity: Quantity,
    /// Price times quantity.
    pub amount: Money,
    /// The key and nonce that created it; `None` for an order that replaces another.
    pub idempotency: Option<Idempotency>,
    /// The device and address counted by limits.
    pub subjects: Subjects,
    /// When it was admitted, at the gate if there is one.
    pub placed_at: Timestamp,
    /// When it expires; `None` for never, and at a gate.
    pub deadline: Option<Timestamp>,
}
