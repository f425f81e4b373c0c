//! Payments, captures and refunds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Currency, Invalid, PaymentId, Timestamp, text::Bounded};

/// The name of a payment provider: 1 to 32 of `a`–`z`, `0`–`9`, `_`, `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Provider(Box<str>);

impl Provider {
    /// The name.
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

/// Where a payment stands.
///
/// ```text
/// Open ──▶ Captured
///   ├────▶ Failed
///   └────▶ Closed     (a capture that was under way may still arrive: Failed or Closed ──▶ Captured)
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
    /// The provider promised to take no money any more, or its time and grace ran out.
    Closed,
}

impl PaymentStatus {
    /// Whether a payment may go from this status to `next`.
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
    /// Who takes the money.
    pub provider: Provider,
    /// Where it stands.
    pub status: PaymentStatus,
    /// When it will be closed at the provider.
    pub deadline: Timestamp,
}

/// A provider's word, verified, that money was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Who took the money.
    pub provider: Provider,
    /// The provider's id of this message.
    pub event: Bounded<128>,
    /// The provider's id of the movement of money.
    pub transaction: Bounded<128>,
    /// The payment it was taken for.
    pub payment: PaymentId,
    /// How much, in minor units, as the provider says.
    pub amount: u64,
    /// In which currency, as the provider says.
    pub currency: Currency,
}

/// Where a refund stands. The order of the variants is that of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// The provider gave the money back.
    Done,
    /// The money has to go back.
    Due,
    /// The provider refused; a person has to look.
    Failed,
}

/// Why money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// The amount or currency is not the order's.
    WrongAmount,
    /// The order was paid by another transaction before.
    PaidTwice,
    /// The order was cancelled, expired or refused before.
    OrderClosed,
    /// Units could not be had any more.
    NoUnits,
    /// An operator decided it.
    Operator,
    /// Another provider took it than the one with which the payment was opened.
    WrongProvider,
}

/// Money on its way back to the buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Why.
    pub reason: RefundReason,
    /// Where it stands.
    pub status: RefundStatus,
}
