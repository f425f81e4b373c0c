//! Domain types: ids, money, time, activities, products, offers, orders and payments.
//!
//! Constructors and deserialization validate, so any value of these types is valid.

pub mod activity;
pub mod attribution;
pub mod id;
pub mod identity;
pub mod limit;
pub mod money;
pub mod offer;
pub mod order;
pub mod payment;
pub mod product;
pub mod reference;
pub mod text;
pub mod time;

pub use activity::{Activity, ActivityStatus, Buckets, Phase, Selling, Window};
pub use attribution::Attribution;
pub use id::{ActivityId, OrderId, PaymentId, ProductId, SkuId, SubjectId, UserId};
pub use identity::{Identity, IdentityKey, Issuer};
pub use limit::{LimitRule, Per, Subject};
pub use money::{Currency, Money};
pub use offer::{LateCapture, OfferTerms, OverbookPercent, Quantity, Strategy};
pub use order::{
    Idempotency, Key, Nonce, Order, OrderKey, OrderStatus, Proceeds, Receipt, RefundOrder, RefundTotal,
    Subjects,
};
pub use payment::{
    Capture, Dispute, Payment, PaymentStatus, Provider, Refund, RefundReason, RefundStatus, ReversalKind,
    ReversalReport,
};
pub use product::{Product, Sku};
pub use reference::OrderRef;
pub use text::{Name, PictureUrl, Text};
pub use time::{Clock, ManualClock, SteadyTime, SystemClock, Timestamp};

/// A value rejected by its constructor.
///
/// The message is for the person who supplied the value: it states the rule and the value seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The rejected field, as the HTTP contract and import files call it: `quantity`, `starts_at`.
    pub field: &'static str,
    /// The rule, and the value seen.
    pub reason: String,
}

impl Invalid {
    /// Creates the error for `field`.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}
