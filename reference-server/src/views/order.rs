//! Orders as in the HTTP contract.

use flashsale_core::domain::{
    ActivityId, Identity, Money, Order, OrderId, OrderStatus, PaymentId, PaymentStatus, RefundStatus, SkuId,
    UserId,
};
use serde::Serialize;

use crate::rfc3339::Rfc3339;

/// An order. `placed_at`, `replaced_by` and the buyer are for operators only.
#[derive(Serialize)]
pub(crate) struct ShownOrder {
    order_id: OrderId,
    status: ShownStatus,
    activity_id: ActivityId,
    sku_id: SkuId,
    quantity: u32,
    amount: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at: Option<Rfc3339>,
    reserved_until: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<ShownPayment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund: Option<ShownRefund>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<OrderId>,
    #[serde(flatten)]
    buyer: Option<ShownBuyer>,
}

#[derive(Serialize)]
struct ShownBuyer {
    /// What the identity provider calls the buyer; null once it was erased.
    user_id: Option<Identity>,
    /// What ledger and audit trail call the buyer.
    user_number: UserId,
}

/// A status of the domain, or `queued` for an order that is not persisted yet.
#[derive(Serialize)]
#[serde(untagged)]
enum ShownStatus {
    Of(OrderStatus),
    Queued(Queued),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Queued {
    Queued,
}

#[derive(Serialize)]
struct ShownPayment {
    id: PaymentId,
    status: PaymentStatus,
    deadline: Rfc3339,
}

#[derive(Serialize)]
struct ShownRefund {
    status: RefundStatus,
    amount: RefundedAmount,
}

/// The captured amount. It may exceed the limit of [`Money`].
#[derive(Serialize)]
struct RefundedAmount {
    amount: u64,
    currency: flashsale_core::domain::Currency,
}

impl ShownOrder {
    /// Shows an order to its owner.
    pub(crate) fn to_owner(order: &Order) -> Self {
        Self {
            order_id: order.key.id,
            status: if order.persisted {
                ShownStatus::Of(order.status)
            } else {
                ShownStatus::Queued(Queued::Queued)
            },
            activity_id: order.key.activity,
            sku_id: order.sku,
            quantity: order.quantity.value(),
            amount: order.amount,
            placed_at: None,
            reserved_until: order.deadline.map(Rfc3339),
            payment: order.payment().map(|payment| ShownPayment {
                id: payment.id,
                status: payment.status,
                deadline: payment.deadline.into(),
            }),
            refund: order.refund().map(|(capture, refund)| ShownRefund {
                status: refund.status,
                amount: RefundedAmount { amount: capture.amount, currency: capture.currency },
            }),
            replaces: order.replaces,
            replaced_by: None,
            buyer: None,
        }
    }

    /// Shows an order to operators, with the buyer's identity unless it was erased.
    pub(crate) fn to_operator(order: &Order, identity: Option<Identity>) -> Self {
        Self {
            placed_at: Some(order.placed_at.into()),
            replaced_by: order.replaced_by,
            buyer: Some(ShownBuyer { user_id: identity, user_number: order.key.user }),
            ..Self::to_owner(order)
        }
    }
}
