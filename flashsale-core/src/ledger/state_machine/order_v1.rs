//! Orders as snapshots of format 1 have them: each receipt had at most one refund, of all its money.

use serde::Deserialize;

use crate::domain::{
    Capture, Idempotency, Money, Order, OrderId, OrderKey, OrderStatus, Payment, Proceeds, Quantity, Receipt,
    Refund, RefundReason, RefundStatus, SkuId, Subjects, Timestamp,
};

/// An order of format 1.
#[derive(Clone, Debug, Deserialize)]
pub struct OrderV1 {
    key: OrderKey,
    sku: SkuId,
    quantity: Quantity,
    amount: Money,
    status: OrderStatus,
    persisted: bool,
    idempotency: Option<Idempotency>,
    subjects: Subjects,
    placed_at: Timestamp,
    deadline: Option<Timestamp>,
    payments: Vec<Payment>,
    receipts: Vec<ReceiptV1>,
    replaces: Option<OrderId>,
    replaced_by: Option<OrderId>,
    units_returned: bool,
    revision: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct ReceiptV1 {
    capture: Capture,
    proceeds: ProceedsV1,
}

#[derive(Clone, Debug, Deserialize)]
enum ProceedsV1 {
    Paid,
    Refund { reason: RefundReason, status: RefundStatus },
}

impl From<OrderV1> for Order {
    fn from(order: OrderV1) -> Self {
        let placed_at = order.placed_at;
        Self {
            key: order.key,
            sku: order.sku,
            quantity: order.quantity,
            amount: order.amount,
            status: order.status,
            persisted: order.persisted,
            idempotency: order.idempotency,
            subjects: order.subjects,
            placed_at,
            deadline: order.deadline,
            payments: order.payments,
            receipts: order.receipts.into_iter().map(|receipt| receipt.read(placed_at)).collect(),
            replaces: order.replaces,
            replaced_by: order.replaced_by,
            units_returned: if order.units_returned { order.quantity.value() } else { 0 },
            reversals: Vec::new(),
            refund_orders: Vec::new(),
            revision: order.revision,
        }
    }
}

impl ReceiptV1 {
    /// Format 1 has no time of a receipt, so that of the order stands in.
    fn read(self, placed_at: Timestamp) -> Receipt {
        let amount = self.capture.amount;
        let (proceeds, refund) = match self.proceeds {
            ProceedsV1::Paid => (Proceeds::Paid, None),
            ProceedsV1::Refund { reason, status } => {
                let refund = Refund { amount, reason, status, reported: false };
                let proceeds =
                    if reason == RefundReason::Operator { Proceeds::Paid } else { Proceeds::Surplus };
                (proceeds, Some(refund))
            }
        };
        let refunds = refund.into_iter().filter(|refund| refund.amount > 0).collect();
        Receipt { capture: self.capture, at: placed_at, proceeds, refunds }
    }
}
