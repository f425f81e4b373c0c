//! Orders as in the HTTP contract.

use flashsale_core::{
    domain::{
        ActivityId, Capture, Dispute, Identity, Money, Order, OrderId, OrderKey, OrderRef, OrderStatus,
        PaymentStatus, Receipt, Refund, RefundReason, RefundStatus, SkuId, UserId,
    },
    ledger::PaymentRef,
};
use serde::Serialize;

use crate::rfc3339::Rfc3339;

/// An order. `placed_at`, `replaced_by`, `units_returned`, the reasons of refunds and the buyer are
/// for operators only.
#[derive(Serialize)]
pub(crate) struct ShownOrder {
    order_id: OrderRef,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    captures: Vec<ShownCapture>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refunds: Vec<ShownRefund>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund: Option<RefundSum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dispute: Option<Dispute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<OrderRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<OrderRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    units_returned: Option<u32>,
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
    id: PaymentRef,
    status: PaymentStatus,
    deadline: Rfc3339,
}

/// Money that a provider took.
#[derive(Serialize)]
struct ShownCapture {
    amount: CapturedMoney,
    at: Rfc3339,
    state: CaptureState,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum CaptureState {
    Booked,
    /// All of it went back or will.
    Refunded,
    Disputed,
}

#[derive(Serialize)]
struct ShownRefund {
    status: RefundStatus,
    amount: CapturedMoney,
    by: RefundedBy,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<RefundReason>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RefundedBy {
    Us,
    Provider,
}

/// All refunds together.
#[derive(Serialize)]
struct RefundSum {
    status: RefundStatus,
    amount: CapturedMoney,
}

/// A captured amount. It may exceed the limit of [`Money`].
#[derive(Serialize)]
struct CapturedMoney {
    amount: u64,
    currency: flashsale_core::domain::Currency,
}

impl ShownCapture {
    fn of(order: &Order, receipt: &Receipt) -> Self {
        let capture = &receipt.capture;
        let state = if order.is_disputed(capture.payment) {
            CaptureState::Disputed
        } else if receipt.kept() == 0 {
            CaptureState::Refunded
        } else {
            CaptureState::Booked
        };
        let amount = CapturedMoney { amount: capture.amount, currency: capture.currency };
        Self { amount, at: receipt.at.into(), state }
    }
}

impl ShownRefund {
    fn of(capture: &Capture, refund: Refund) -> Self {
        let by = if refund.reason.is_by_provider() { RefundedBy::Provider } else { RefundedBy::Us };
        let amount = CapturedMoney { amount: refund.amount, currency: capture.currency };
        Self { status: refund.status, amount, by, reason: None }
    }
}

impl ShownOrder {
    /// Shows an order and the reference of its payment to its owner.
    pub(crate) fn to_owner(order: &Order, payment: Option<PaymentRef>) -> Self {
        let linked = |id: OrderId| OrderKey { id, ..order.key }.reference();
        Self {
            order_id: order.key.reference(),
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
            payment: payment.zip(order.payment()).map(|(id, payment)| ShownPayment {
                id,
                status: payment.status,
                deadline: payment.deadline.into(),
            }),
            captures: order.receipts.iter().map(|receipt| ShownCapture::of(order, receipt)).collect(),
            refunds: order.refunds().map(|(capture, refund)| ShownRefund::of(capture, refund)).collect(),
            refund: order.refund().map(|total| RefundSum {
                status: total.status,
                amount: CapturedMoney { amount: total.amount, currency: total.currency },
            }),
            dispute: order.dispute(),
            replaces: order.replaces.map(linked),
            replaced_by: None,
            units_returned: None,
            buyer: None,
        }
    }

    /// Shows an order to operators, with the buyer's identity unless it was erased.
    pub(crate) fn to_operator(
        order: &Order,
        payment: Option<PaymentRef>,
        identity: Option<Identity>,
    ) -> Self {
        let shown = Self::to_owner(order, payment);
        let reasons = order.refund_reasons();
        let refunds = shown.refunds.into_iter().zip(reasons);
        Self {
            placed_at: Some(order.placed_at.into()),
            replaced_by: order.replaced_by.map(|id| OrderKey { id, ..order.key }.reference()),
            refunds: refunds.map(|(refund, reason)| ShownRefund { reason: Some(reason), ..refund }).collect(),
            units_returned: (order.units_returned > 0).then_some(order.units_returned),
            buyer: Some(ShownBuyer { user_id: identity, user_number: order.key.user }),
            ..shown
        }
    }
}
