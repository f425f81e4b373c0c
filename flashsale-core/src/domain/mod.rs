//! What a sale is made of: ids, money, time, activities, products, offers, orders and payments.
//!
//! A value of these types that exists is valid: constructors and deserialisation check, nobody else has to.

pub mod activity;
pub mod attribution;
pub mod id;
pub mod limit;
pub mod money;
pub mod offer;
pub mod order;
pub mod payment;
pub mod product;
pub mod text;
pub mod time;

pub use activity::{Activity, ActivityStatus, Buckets, Phase, Selling, Window};
pub use attribution::Attribution;
pub use id::{ActivityId, OrderId, PaymentId, ProductId, SkuId, SubjectId, UserId};
pub use limit::{LimitRule, Per, Subject};
pub use money::{Currency, Money};
pub use offer::{LateCapture, OfferTerms, OverbookPercent, Quantity, Strategy};
pub use order::{Idempotency, Key, Nonce, Order, OrderKey, OrderStatus, Proceeds, Receipt, Subjects};
pub use payment::{Capture, Payment, PaymentStatus, Provider, Refund, RefundReason, RefundStatus};
pub use product::{Product, Sku};
pub use text::{Name, Text};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};

/// Why a value was refused at construction.
///
/// The message is meant for the person who supplied the value: it names the rule and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// What was refused, in the words of the HTTP contract and of import files: `quantity`, `price`, `starts_at`.
    pub field: &'static str,
    /// The rule, and what was seen instead.
    pub reason: String,
}

impl Invalid {
    /// Makes the error for `field`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}
