//! Orders and their life cycle.

use serde::{Deserialize, Serialize};

use super::{
    ActivityId, Capture, Currency, Dispute, Money, OrderId, Payment, PaymentId, Quantity, Refund,
    RefundReason, RefundStatus, ReversalKind, ReversalReport, SkuId, SubjectId, Timestamp, UserId,
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

/// What the money of one captured transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proceeds {
    /// It pays for the order, alone or with others, apart from what of it is refunded.
    Paid,
    /// It is a part of the amount; the rest is awaited.
    Part,
    /// It is not for the order, so all of it is refunded.
    Surplus,
}

/// A captured transaction of an order, with the use of its money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What the provider reported.
    pub capture: Capture,
    /// When it was booked, by the lane's time.
    pub at: Timestamp,
    /// The use of the money.
    pub proceeds: Proceeds,
    /// Its refunds, oldest first. Each is known by its index here.
    pub refunds: Vec<Refund>,
}

impl Receipt {
    /// Returns the amount without a refund.
    pub fn kept(&self) -> u64 {
        self.capture.amount.saturating_sub(self.refunds.iter().map(|refund| refund.amount).sum())
    }

    /// Returns the amount that has not gone back yet.
    pub fn unreturned(&self) -> u64 {
        let done = self.refunds.iter().filter(|refund| refund.status == RefundStatus::Done);
        self.capture.amount.saturating_sub(done.map(|refund| refund.amount).sum())
    }

    /// Returns whether a report is about the money of this receipt: same provider, payment and
    /// currency.
    pub fn is_reversed_by(&self, report: &ReversalReport) -> bool {
        let capture = &self.capture;
        (&capture.provider, capture.payment, capture.currency)
            == (&report.provider, report.payment, report.currency)
    }

    /// Adds a refund that is due. An amount of 0 adds none.
    pub(crate) fn refund(&mut self, amount: u64, reason: RefundReason) {
        if amount > 0 {
            self.refunds.push(Refund { amount, reason, status: RefundStatus::Due, reported: false });
        }
    }
}

/// An operator's order to refund, known by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundOrder {
    /// The operator's idempotency key, as a digest.
    pub key: Key,
    /// The amount in minor units; `None` for all that was paid and not refunded.
    pub amount: Option<u64>,
    /// How many units can be sold again; `None` for all that have not been returned.
    pub units: Option<u32>,
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
    /// How many of its units operators' refunds returned.
    pub units_returned: u32,
    /// What the provider reported of money sent back and disputes, oldest first.
    pub reversals: Vec<ReversalReport>,
    /// What operators ordered to refund, oldest first.
    pub refund_orders: Vec<RefundOrder>,
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

    /// Returns all refunds with their captures, those of older captures first.
    pub fn refunds(&self) -> impl Iterator<Item = (&Capture, Refund)> {
        self.receipts
            .iter()
            .flat_map(|receipt| receipt.refunds.iter().map(move |refund| (&receipt.capture, *refund)))
            .filter(|(_, refund)| refund.amount > 0)
    }

    /// Returns the status of all refunds together and their sum: due while one is, else failed if
    /// one is. Refunds in another currency than the most urgent one's are not part of the sum.
    pub fn refund(&self) -> Option<RefundTotal> {
        let urgency = |status| match status {
            RefundStatus::Done => 0,
            RefundStatus::Failed => 1,
            RefundStatus::Due => 2,
        };
        let (capture, most_urgent) = self.refunds().max_by_key(|(_, refund)| urgency(refund.status))?;
        let currency = capture.currency;
        let amounts = self.refunds().filter(|(capture, _)| capture.currency == currency);
        let amount = amounts.fold(0_u64, |sum, (_, refund)| sum.saturating_add(refund.amount));
        Some(RefundTotal { status: most_urgent.status, amount, currency })
    }

    /// Returns the reason of every refund, settled or not.
    pub fn refund_reasons(&self) -> impl Iterator<Item = RefundReason> + '_ {
        self.refunds().map(|(_, refund)| refund.reason)
    }

    /// Returns the state of its disputes together: open if one is, else lost if one is.
    pub fn dispute(&self) -> Option<Dispute> {
        self.reversals.iter().filter_map(|report| dispute_of(&self.reversals, report)).max()
    }

    /// Returns whether a dispute of this payment is open.
    pub fn is_disputed(&self, payment: PaymentId) -> bool {
        has_open_dispute(&self.reversals, payment)
    }
}

/// The refunds of an order taken together; see [`Order::refund`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundTotal {
    /// Their status.
    pub status: RefundStatus,
    /// Their sum in minor units.
    pub amount: u64,
    /// The currency.
    pub currency: Currency,
}

/// Whether one of these reports opened a dispute of this payment that no other report ends.
pub(crate) fn has_open_dispute(reports: &[ReversalReport], payment: PaymentId) -> bool {
    let of_payment = reports.iter().filter(|report| report.payment == payment);
    of_payment.into_iter().any(|report| dispute_of(reports, report) == Some(Dispute::Open))
}

/// The state of the dispute that a report is about; `None` for a refund. The order in which reports
/// arrive does not matter: an end is final.
fn dispute_of(reports: &[ReversalReport], report: &ReversalReport) -> Option<Dispute> {
    if report.kind == ReversalKind::Refunded {
        return None;
    }
    let told = |kind| reports.iter().any(|other| other.kind == kind && other.is_same_transaction(report));
    Some(if told(ReversalKind::DisputeLost) {
        Dispute::Lost
    } else if told(ReversalKind::DisputeWon) {
        Dispute::Won
    } else {
        Dispute::Open
    })
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
