//! Orders and their life cycle.

use serde::{Deserialize, Serialize};

use super::{
    ActivityId, Capture, Money, OrderId, Payment, Provider, Quantity, Refund, RefundReason, SkuId, SubjectId,
    Timestamp, UserId,
};

/// The key of an order. Activity and user determine its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// The activity.
    pub activity: ActivityId,
    /// The buyer, who owns the order.
    pub user: UserId,
    /// The order.
    pub id: OrderId,
}

/// The status of an order.
///
/// ```text
///            ┌───────────────────────▶ CANCELLED
///            │    ┌──────────────────▶ EXPIRED (a late capture may make a new order that replaces it)
///   PENDING ─┴────┴── capture ───────▶ PAID
///     │  ▲                              ▲
///     │  └── payment failed, closed ──┐ │
///     └──── open payment ──▶ PAYING ──┴─┘
///
///   REFUSED: the truth did not take an order that the gate had admitted.
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Waiting for a payment to open.
    Pending,
    /// Its payment is open at the provider.
    Paying,
    /// Paid. Terminal: a refund is recorded on the payment.
    Paid,
    /// Cancelled by the buyer or an operator. Terminal.
    Cancelled,
    /// Not paid in time. Terminal.
    Expired,
    /// Refused by the truth. Terminal.
    Refused,
}

impl OrderStatus {
    /// Every status, in declaration order.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Paying, Self::Paid, Self::Cancelled, Self::Expired, Self::Refused];

    /// Returns the name used in responses and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }

    /// Returns whether the order may still change: pending or paying.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Paying)
    }

    /// Returns whether limits count the order's units: it is open or paid.
    pub fn counts_for_limits(self) -> bool {
        self.is_open() || self == Self::Paid
    }

    /// Returns whether an order may move from this status to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use OrderStatus::{Cancelled, Expired, Paid, Paying, Pending};
        matches!(
            (self, next),
            (Pending, Paying | Paid | Cancelled | Expired) | (Paying, Pending | Paid | Expired)
        )
    }
}

/// The use of the money from one captured transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proceeds {
    /// It pays for the order that holds this record.
    Paid,
    /// It goes back to the buyer.
    Refund(Refund),
}

/// A captured transaction of an order, with the use of its money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What the provider reported.
    pub capture: Capture,
    /// The use of the money.
    pub proceeds: Proceeds,
}

/// A buyer's claim on units of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Activity, owner and id.
    pub key: OrderKey,
    /// The SKU ordered.
    pub sku: SkuId,
    /// The number of units.
    pub quantity: Quantity,
    /// Price times quantity, frozen when the order was placed.
    pub amount: Money,
    /// Its status.
    pub status: OrderStatus,
    /// Whether the deciding ledger has it. `false` only at a gate, for a queued order.
    pub persisted: bool,
    /// The key and nonce that created it; `None` for an order that replaces another.
    pub idempotency: Option<Idempotency>,
    /// The device and address counted by limits.
    pub subjects: Subjects,
    /// When it was placed, by the deciding clock.
    pub placed_at: Timestamp,
    /// When it expires if no payment opens first; `None` for never, and at a gate.
    pub deadline: Option<Timestamp>,
    /// Its payments, oldest first.
    pub payments: Vec<Payment>,
    /// Its captured transactions, oldest first.
    pub receipts: Vec<Receipt>,
    /// The expired order that it replaces.
    pub replaces: Option<OrderId>,
    /// The order that replaced this one after it expired.
    pub replaced_by: Option<OrderId>,
    /// Whether an operator's refund returned its units.
    pub units_returned: bool,
    /// The sequence of its latest event in the deciding ledger's outbox; grows with every change. 0
    /// at a gate, for an order that is still queued.
    pub revision: u64,
}

/// The idempotency key and ticket nonce of the request that created an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Idempotency {
    /// The caller's key, as a digest.
    pub key: Key,
    /// The ticket's nonce.
    pub nonce: Nonce,
}

/// An idempotency key: a 128-bit digest of the caller's key, scoped to (activity, user).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub u128);

impl Key {
    /// Digests the text of an `Idempotency-Key` header.
    pub fn of_text(text: &str) -> Self {
        Self(super::text::digest128(text.as_bytes()))
    }

    /// Derives the key of a request without one from its ticket's nonce.
    pub fn of_nonce(nonce: Nonce) -> Self {
        Self(u128::from(nonce.0))
    }
}

/// An unpredictable ticket number, scoped to (activity, user).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

/// The subjects of limits besides the user, supplied by the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subjects {
    /// The device.
    pub device: Option<SubjectId>,
    /// The network address.
    pub address: Option<SubjectId>,
}

impl Order {
    /// Returns the payment opened last.
    pub fn payment(&self) -> Option<&Payment> {
        self.payments.last()
    }

    /// Returns the payment with this id.
    pub fn payment_by_id(&self, id: super::PaymentId) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.id == id)
    }

    /// Returns the most urgent refund: failed before due before done.
    pub fn refund(&self) -> Option<(&Capture, Refund)> {
        let refunds = self.receipts.iter().filter_map(|receipt| match receipt.proceeds {
            Proceeds::Refund(refund) => Some((&receipt.capture, refund)),
            Proceeds::Paid => None,
        });
        refunds.max_by_key(|(_, refund)| refund.status)
    }

    /// Returns the captured transaction with this provider and id.
    pub fn receipt(&self, provider: &Provider, transaction: &str) -> Option<&Receipt> {
        self.receipts.iter().find(|receipt| {
            receipt.capture.provider == *provider && receipt.capture.transaction.as_str() == transaction
        })
    }

    /// Returns the reason of every refund, settled or not.
    pub fn refund_reasons(&self) -> impl Iterator<Item = RefundReason> + '_ {
        self.receipts.iter().filter_map(|receipt| match receipt.proceeds {
            Proceeds::Refund(refund) => Some(refund.reason),
            Proceeds::Paid => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_statuses_are_final() {
        use OrderStatus::{Cancelled, Expired, Paid, Paying, Pending, Refused};
        let all = [Pending, Paying, Paid, Cancelled, Expired, Refused];
        for terminal in [Paid, Cancelled, Expired, Refused] {
            assert!(!terminal.is_open());
            assert!(all.iter().all(|next| !terminal.may_become(*next)), "{terminal:?}");
        }
        assert!(!Paying.may_become(Cancelled), "the provider must close the payment first");
    }
}
