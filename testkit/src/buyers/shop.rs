//! The server as buyers see it: addresses, offers and orders.

use std::net::SocketAddr;

use flashsale_core::domain::{ActivityId, OrderRef, OrderStatus, SkuId, Strategy, UserId};
use serde::Deserialize;

use super::Provider;

/// A running server as seen by its clients. Its addresses change when it restarts.
#[derive(Clone, Debug)]
pub struct Shop {
    /// The public listener.
    pub public: SocketAddr,
    /// The operations listener.
    pub operations: SocketAddr,
    /// A token with the role `operator`.
    pub operator_token: String,
    /// The payment provider, for callbacks that the sandbox does not send on its own.
    pub provider: Provider,
}

/// An offer, as far as buyers and checks need to know it.
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
    /// How long an unpaid order is held, in seconds; `None` for no expiry.
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
    /// The order id.
    pub order_id: OrderRef,
    /// The status. These tests only cover deployments that answer Persisted, so no order is queued.
    pub status: OrderStatus,
    /// The activity.
    pub activity_id: ActivityId,
    /// The SKU.
    pub sku_id: SkuId,
    /// The number of units.
    pub quantity: u32,
    /// The price of the order.
    pub amount: Amount,
    /// The latest payment.
    #[serde(default)]
    pub payment: Option<PaymentView>,
    /// The refund, if one is due or done.
    #[serde(default)]
    pub refund: Option<RefundView>,
    /// The expired order that this one replaces.
    #[serde(default)]
    pub replaces: Option<OrderRef>,
    /// The owner, filled in by the reader; the response does not contain it.
    #[serde(skip)]
    pub user: Option<UserId>,
}

/// Money as serialized by the API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Amount {
    /// Minor units.
    pub amount: u64,
    /// The ISO 4217 code.
    pub currency: String,
}

/// A payment in an order.
#[derive(Clone, Debug, Deserialize)]
pub struct PaymentView {
    /// The payment id.
    pub id: String,
    /// The status.
    pub status: String,
}

/// A refund in an order.
#[derive(Clone, Debug, Deserialize)]
pub struct RefundView {
    /// `due`, `done` or `failed`.
    pub status: String,
    /// The amount that is sent back.
    pub amount: Amount,
}
