//! Where buyers buy: addresses, offers, and the way orders look from outside.

use std::net::SocketAddr;

use flashsale_core::domain::{ActivityId, OrderId, OrderStatus, SkuId, Strategy, UserId};
use serde::Deserialize;

use super::Provider;

/// A running server as its clients know it. It changes its addresses when it is started again.
#[derive(Clone, Debug)]
pub struct Shop {
    /// The public listener.
    pub public: SocketAddr,
    /// The operations listener.
    pub operations: SocketAddr,
    /// A token with the role `operator`.
    pub operator_token: String,
    /// The payment provider, for callbacks that the sandbox does not send by itself.
    pub provider: Provider,
}

/// What the buyers and the checks know of an offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The activity.
    pub activity: ActivityId,
    /// The SKU.
    pub sku: SkuId,
    /// The strategy.
    pub strategy: Strategy,
    /// Units on sale at the start.
    pub units: u64,
    /// How long an unpaid order lasts, in seconds; `None` for ever.
    pub hold_seconds: Option<u32>,
    /// The limit on units per user and offer.
    pub per_user: u32,
}

impl Offer {
    /// The path of the offer on both listeners.
    pub fn path(&self) -> String {
        format!("/v1/activities/{}/offers/{}", self.activity, self.sku)
    }
}

/// An order as `GET /v1/orders/{id}` shows it to its owner.
#[derive(Clone, Debug, Deserialize)]
pub struct OrderView {
    /// Its id.
    pub order_id: OrderId,
    /// Where it stands. A queued order cannot be read: these tests are of deployments that answer Persisted.
    pub status: OrderStatus,
    /// The activity.
    pub activity_id: ActivityId,
    /// What is bought.
    pub sku_id: SkuId,
    /// How many.
    pub quantity: u32,
    /// What it costs.
    pub amount: Amount,
    /// The payment that was opened last.
    #[serde(default)]
    pub payment: Option<PaymentView>,
    /// Money that goes back.
    #[serde(default)]
    pub refund: Option<RefundView>,
    /// The expired order in whose place it was made.
    #[serde(default)]
    pub replaces: Option<OrderId>,
    /// Whose it is: filled in by whoever read it, the answer does not say.
    #[serde(skip)]
    pub user: Option<UserId>,
}

/// Money on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Amount {
    /// Minor units.
    pub amount: u64,
    /// ISO 4217.
    pub currency: String,
}

/// A payment as its order shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct PaymentView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: String,
}

/// A refund as its order shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct RefundView {
    /// `due`, `done` or `failed`.
    pub status: String,
    /// How much.
    pub amount: Amount,
}
