//! Orders and their life.

use serde::{Deserialize, Serialize};

use super::{
    ActivityId, Capture, Money, OrderId, Payment, Provider, Quantity, Refund, RefundReason, SkuId, SubjectId,
    Timestamp, UserId,
};

/// Where an order is found: the activity and the user name its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderKey {
    /// The activity.
    pub activity: ActivityId,
    /// The buyer, who owns the order.
    pub user: UserId,
    /// The order.
    pub id: OrderId,
}

/// Where an order stands.
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
    /// Waits for its payment to open.
    Pending,
    /// Its payment is open at the provider.
    Paying,
    /// Paid. Terminal; a refund is a fact about the payment.
    Paid,
    /// Given up by the buyer or an operator. Terminal.
    Cancelled,
    /// Not paid in time. Terminal.
    Expired,
    /// Not taken by the truth. Terminal.
    Refused,
}

impl OrderStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Paying, Self::Paid, Self::Cancelled, Self::Expired, Self::Refused];

    /// Its word in answers and metrics.
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

    /// Whether the order may still change: pending or paying.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Paying)
    }

    /// Whether limits count the order's units: it is open or paid.
    pub fn counts_for_limits(self) -> bool {
        self.is_open() || self == Self::Paid
    }

    /// Whether an order may go from this status to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use OrderStatus::{Cancelled, Expired, Paid, Paying, Pending};
        matches!(
            (self, next),
            (Pending, Paying | Paid | Cancelled | Expired) | (Paying, Pending | Paid | Expired)
        )
    }
}

/// What became of the money of one captured transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proceeds {
    /// It pays for the order that holds this record.
    Paid,
    /// It goes back to the buyer.
    Refund(Refund),
}

/// A captured transaction of an order with what became of its money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What the provider reported.
    pub capture: Capture,
    /// What became of the money.
    pub proceeds: Proceeds,
}

/// A buyer's claim on units of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Activity, owner and id.
    pub key: OrderKey,
    /// What is bought.
    pub sku: SkuId,
    /// How many.
    pub quantity: Quantity,
    /// Price times quantity, frozen when the order was placed.
    pub amount: Money,
    /// Where it stands.
    pub status: OrderStatus,
    /// Whether the ledger that decides has it. `false` only at a gate, for an order that is still queued.
    pub persisted: bool,
    /// The idempotency key that made it, scoped to activity and user; `None` for an order that replaces another.
    pub idempotency: Option<Idempotency>,
    /// The device and address that limits counted.
    pub subjects: Subjects,
    /// When it was placed, on the deciding clock.
    pub placed_at: Timestamp,
    /// When it expires if its payment does not open before; `None` for never, and at a gate.
    pub deadline: Option<Timestamp>,
    /// Every payment that was opened for it, oldest first.
    pub payments: Vec<Payment>,
    /// Every transaction that was captured for it, oldest first.
    pub receipts: Vec<Receipt>,
    /// The expired order in whose place it was made.
    pub replaces: Option<OrderId>,
    /// The order that was made in place of this one, which had expired.
    pub replaced_by: Option<OrderId>,
    /// Whether an operator's refund gave its units back.
    pub units_returned: bool,
    /// The sequence of the last event that concerned it, in the outbox of the ledger that decides: grows with every
    /// change. 0 at a gate, for an order that is still queued.
    pub revision: u64,
}

/// The idempotency key and the ticket nonce that made an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Idempotency {
    /// The caller's key, as a digest.
    pub key: Key,
    /// The ticket's nonce.
    pub nonce: Nonce,
}

/// An idempotency key: a 128-bit digest of what the caller chose. It is scoped to (activity, user).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub u128);

impl Key {
    /// The key for the text of an `Idempotency-Key` header.
    pub fn of_text(text: &str) -> Self {
        Self(super::text::digest128(text.as_bytes()))
    }

    /// The key of a request that names none: its ticket's nonce.
    pub fn of_nonce(nonce: Nonce) -> Self {
        Self(u128::from(nonce.0))
    }
}

/// A ticket's number, unpredictable, unique for its user. It is scoped to (activity, user).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

/// Subjects of limits besides the user, as the application supplies them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subjects {
    /// The device.
    pub device: Option<SubjectId>,
    /// The network address.
    pub address: Option<SubjectId>,
}

impl Order {
    /// The payment that was opened last.
    pub fn payment(&self) -> Option<&Payment> {
        self.payments.last()
    }

    /// The payment with this id.
    pub fn payment_by_id(&self, id: super::PaymentId) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.id == id)
    }

    /// The refund that matters most to the buyer: a failed one before one that is due before one that is done.
    pub fn refund(&self) -> Option<(&Capture, Refund)> {
        let refunds = self.receipts.iter().filter_map(|receipt| match receipt.proceeds {
            Proceeds::Refund(refund) => Some((&receipt.capture, refund)),
            Proceeds::Paid => None,
        });
        refunds.max_by_key(|(_, refund)| refund.status)
    }

    /// The captured transaction with this identity.
    pub fn receipt(&self, provider: &Provider, transaction: &str) -> Option<&Receipt> {
        self.receipts.iter().find(|receipt| {
            receipt.capture.provider == *provider && receipt.capture.transaction.as_str() == transaction
        })
    }

    /// Why money of this order went back or has to, if it did or has.
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
        assert!(!Paying.may_become(Cancelled), "the provider has to close the payment first");
    }
}
