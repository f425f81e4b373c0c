//! Payments, captures and refunds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Currency, Invalid, PaymentId, Timestamp, text::Bounded};

/// The name of a payment provider: 1 to 32 characters from `a`–`z`, `0`–`9`, `_`, `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Provider(Box<str>);

impl Provider {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Provider {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if (1..=32).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(Invalid::new("provider", "a provider's name has 1 to 32 of a-z, 0-9, _ and -"))
        }
    }
}

impl TryFrom<String> for Provider {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        name.parse()
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.0.into()
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The status of a payment.
///
/// ```text
/// Open ──▶ Captured
///   ├────▶ Failed
///   └────▶ Closed     (a late capture may still arrive: Failed or Closed ──▶ Captured)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The buyer can pay.
    Open,
    /// The money was taken.
    Captured,
    /// The provider could not take the money.
    Failed,
    /// The provider confirmed that it will take no money, or the deadline and grace period passed.
    Closed,
}

impl PaymentStatus {
    /// Returns whether a payment may move from this status to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use PaymentStatus::{Captured, Closed, Failed, Open};
        matches!((self, next), (Open, Captured | Failed | Closed) | (Failed | Closed, Captured))
    }
}

/// One attempt to pay an order through one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Its id, which is also the provider's idempotency key.
    pub id: PaymentId,
    /// The provider that takes the money.
    pub provider: Provider,
    /// Its status.
    pub status: PaymentStatus,
    /// When closing it at the provider becomes due.
    pub deadline: Timestamp,
}

/// A provider's verified report that money was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The provider that took the money.
    pub provider: Provider,
    /// The provider's id of this report.
    pub event: Bounded<128>,
    /// The provider's id of the transaction.
    pub transaction: Bounded<128>,
    /// The payment that the money was taken for.
    pub payment: PaymentId,
    /// The reported amount in minor units.
    pub amount: u64,
    /// The reported currency.
    pub currency: Currency,
}

impl Capture {
    /// Returns whether both report the same transaction of the same payment, whatever its content.
    pub fn is_same_transaction(&self, other: &Self) -> bool {
        (self.payment, &self.provider, &self.transaction)
            == (other.payment, &other.provider, &other.transaction)
    }

    /// Returns whether both report the same money: the same transaction of the same payment, with
    /// the same amount and currency.
    ///
    /// The ids of events are not compared: some providers report one capture under several, and
    /// closing a payment tells of its capture without any event.
    pub fn repeats(&self, other: &Self) -> bool {
        self.is_same_transaction(other) && (self.amount, self.currency) == (other.amount, other.currency)
    }
}

/// The status of a refund, in ascending order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The provider returned the money.
    Done,
    /// The money must be returned.
    Due,
    /// The provider refused; an operator must intervene.
    Failed,
}

/// The reason for a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// The amount or currency differs from the order's, or the captured parts are more than that.
    WrongAmount,
    /// Another transaction had already paid the order.
    PaidTwice,
    /// The order was already cancelled, expired or refused.
    OrderClosed,
    /// No units were left.
    NoUnits,
    /// An operator ordered it.
    Operator,
    /// A provider other than the payment's took the money.
    WrongProvider,
    /// The payment ended before the rest of the amount came.
    Incomplete,
    /// It was made at the provider, not by us.
    Provider,
    /// The buyer won a dispute, so the provider took the money back.
    Dispute,
}

impl RefundReason {
    /// Returns whether the provider sent the money back without being asked by us.
    pub fn is_by_provider(self) -> bool {
        matches!(self, Self::Provider | Self::Dispute)
    }
}

/// Money that goes back to the buyer: a captured transaction or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The amount in minor units of the capture's currency. It shrinks while the refund is due if
    /// the provider sends some of the money back itself.
    pub amount: u64,
    /// Its reason.
    pub reason: RefundReason,
    /// Its status.
    pub status: RefundStatus,
    /// Whether the provider has reported it. Each reported refund is matched at most once.
    pub reported: bool,
}

/// A provider's verified report of money that it sent back, or that is disputed.
///
/// A [repeat](Self::repeats) changes nothing. A refund whose amount equals one of ours on that
/// payment, not reported before, is that refund: no second one is sent. Any other is new, and what
/// we still owe for the payment becomes less. While a dispute is open, no refund of its payment is
/// sent; losing it sends back the disputed amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReversalReport {
    /// The provider.
    pub provider: Provider,
    /// What it reports.
    pub kind: ReversalKind,
    /// The provider's id of this report.
    pub event: Bounded<128>,
    /// The provider's id of the refund or dispute, or of the captured transaction.
    pub transaction: Bounded<128>,
    /// The payment.
    pub payment: PaymentId,
    /// The refunded or disputed amount in minor units.
    pub amount: u64,
    /// The currency.
    pub currency: Currency,
}

/// What a [`ReversalReport`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReversalKind {
    /// Money was sent back to the buyer.
    Refunded,
    /// The buyer disputes the payment at the bank.
    Disputed,
    /// The dispute ended: the money stays.
    DisputeWon,
    /// The dispute ended: the bank took the money back.
    DisputeLost,
}

impl ReversalReport {
    /// Returns whether both come from one event: the same provider, payment, kind and event id.
    pub fn is_same_event(&self, other: &Self) -> bool {
        (&self.provider, self.payment, self.kind, &self.event)
            == (&other.provider, other.payment, other.kind, &other.event)
    }

    /// Returns whether both report on the same refund or dispute of the same payment.
    pub fn is_same_transaction(&self, other: &Self) -> bool {
        (&self.provider, self.payment, &self.transaction)
            == (&other.provider, other.payment, &other.transaction)
    }

    /// Returns whether both report the same fact: the same event with the same content.
    pub fn repeats(&self, other: &Self) -> bool {
        self.is_same_event(other)
            && self.is_same_transaction(other)
            && (self.amount, self.currency) == (other.amount, other.currency)
    }
}

/// The state of a dispute, in ascending order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispute {
    /// The money stayed with the shop.
    Won,
    /// The money went back to the buyer.
    Lost,
    /// The bank has not decided.
    Open,
}
