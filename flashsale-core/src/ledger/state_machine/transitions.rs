//! Deciding the steps of an order's life: the status table, cell by cell.

use super::{
    lane::LaneState,
    orders::{OrderRow, RowId},
};
use crate::{
    domain::{
        Attribution, Capture, LateCapture, Money, OrderId, OrderKey, OrderStatus, PaymentId, PaymentStatus,
        Proceeds, Provider, Receipt, RefundReason, RefundStatus, Strategy, Timestamp, text::Bounded,
    },
    ledger::{Advance, Advanced, Closing, OrderChange, Placed},
};

/// The decision on a step.
#[derive(Debug)]
pub(super) enum Decision {
    /// The order changes: the step is done.
    Change(RowId, OrderChange),
    /// The money was taken and must be refunded.
    RefundDue(RowId, OrderChange, RefundReason),
    /// A new order replaces the expired one.
    Retake(OrderId, OrderChange),
    /// Nothing changes: the step was taken before, or has no effect any more.
    Replay(RowId),
    /// Nothing changes, for this reason.
    Decline(Advanced),
}

use Decision::{Change, Decline, Replay, Retake};

/// The most payments of one order.
const MAX_PAYMENTS: usize = 32;

impl LaneState {
    /// Decides a step without changing anything. `now` is the lane's time.
    pub(super) fn decide_advance(&self, now: Timestamp, step: &Advance) -> Decision {
        let key = step.order();
        let Some(row_id) = self.owned(key.user, key.id) else {
            return Decline(Advanced::NotFound);
        };
        let row = self.orders.row(row_id);
        match step {
            Advance::OpenPayment { payment, provider, .. } => {
                self.decide_open(now, row_id, row, *payment, provider)
            }
            Advance::Capture { capture, replacement, .. } => {
                self.decide_capture(now, row_id, row, capture, *replacement)
            }
            Advance::PaymentFailed { payment, .. } => {
                decide_ended(row_id, row, *payment, PaymentStatus::Failed, OrderStatus::Pending)
            }
            Advance::PaymentClosed { payment, .. } => {
                let over = row.payments().last().is_some_and(|payment| payment.deadline <= now);
                let next = if over { OrderStatus::Expired } else { OrderStatus::Pending };
                decide_ended(row_id, row, *payment, PaymentStatus::Closed, next)
            }
            Advance::Cancel { by, .. } => match row.status {
                OrderStatus::Pending => Change(row_id, cancelled(by.as_ref())),
                OrderStatus::Paying if mutant!("cancel-while-paying") => {
                    Change(row_id, cancelled(by.as_ref()))
                }
                OrderStatus::Cancelled => Replay(row_id),
                status => Decline(Advanced::WrongState(status)),
            },
            Advance::Refund { units_returned, by, .. } => decide_refund(row_id, row, *units_returned, by),
            Advance::RefundSettled { payment, provider, transaction, outcome, .. } => {
                decide_settled(row_id, row, *payment, provider, transaction, (*outcome).into())
            }
        }
    }

    fn decide_open(
        &self,
        now: Timestamp,
        row_id: RowId,
        row: &OrderRow,
        payment: PaymentId,
        provider: &Provider,
    ) -> Decision {
        match self.orders.by_payment(payment) {
            Some(owner) if owner == row_id => return Replay(row_id),
            Some(_) => return Decline(Advanced::IdTaken),
            None => {}
        }
        match row.status {
            OrderStatus::Paying => Replay(row_id),
            OrderStatus::Pending if row.payments().len() >= MAX_PAYMENTS => {
                Decline(Advanced::WrongState(OrderStatus::Pending))
            }
            OrderStatus::Pending => {
                if self.strategy(row.offer) == Strategy::PayTime && !self.has_units(row) {
                    return Decline(Advanced::SoldOut { available: self.units_left(row.offer) });
                }
                let deadline = self.payment_deadline(now, row.deadline);
                Change(row_id, OrderChange::PaymentOpened { payment, provider: provider.clone(), deadline })
            }
            status => Decline(Advanced::WrongState(status)),
        }
    }

    /// When the payment window ends: never before the order's deadline, and at most the payment cap
    /// after it.
    fn payment_deadline(&self, now: Timestamp, deadline: Timestamp) -> Timestamp {
        let timing = self.terms.timing();
        let end = now.after(timing.payment_window);
        if deadline == Timestamp::MAX { end } else { end.clamp(deadline, deadline.after(timing.payment_cap)) }
    }

    fn decide_capture(
        &self,
        now: Timestamp,
        row_id: RowId,
        row: &OrderRow,
        capture: &Capture,
        replacement: OrderId,
    ) -> Decision {
        let Some(payment) = row.payments().iter().find(|payment| payment.id == capture.payment) else {
            return Decline(Advanced::NotFound);
        };
        if let Some(holder) = self.repeated(row_id, capture) {
            return Replay(holder);
        }
        let can_be_new = row.status == OrderStatus::Paying
            && payment.status == PaymentStatus::Open
            && !row.receipts().iter().any(|receipt| receipt.capture.is_same_transaction(capture));
        if !can_be_new && self.orders.by_capture(capture).is_some() && !mutant!("capture-conflict-ignored") {
            return Decline(Advanced::Conflict);
        }
        let refund = |reason| {
            Decision::RefundDue(row_id, OrderChange::RefundDue { capture: capture.clone(), reason }, reason)
        };
        if payment.provider != capture.provider && row.status != OrderStatus::Paid {
            return refund(RefundReason::WrongProvider);
        }
        let paid = || Change(row_id, OrderChange::Paid(capture.clone()));
        let currency = self.terms.offers()[row.offer as usize].price().currency();
        if !mutant!("amount-not-compared") && (capture.amount, capture.currency) != (row.amount(), currency) {
            return refund(RefundReason::WrongAmount);
        }
        match row.status {
            OrderStatus::Paying => paid(),
            OrderStatus::Pending if self.strategy(row.offer) != Strategy::PayTime || self.has_units(row) => {
                paid()
            }
            OrderStatus::Pending => refund(RefundReason::NoUnits),
            OrderStatus::Paid => refund(RefundReason::PaidTwice),
            OrderStatus::Cancelled if mutant!("late-capture-revives") => paid(),
            OrderStatus::Cancelled | OrderStatus::Refused => refund(RefundReason::OrderClosed),
            OrderStatus::Expired => self
                .decide_late(now, row, capture, replacement)
                .map_or_else(refund, |change| Retake(replacement, change)),
        }
    }

    /// The order that holds the receipt of a repeated report: this one, or the one that replaced it.
    fn repeated(&self, row_id: RowId, capture: &Capture) -> Option<RowId> {
        if mutant!("capture-known-by-event-alone") {
            return self.orders.by_capture(capture);
        }
        let replaced_by = self.orders.row(row_id).extra.as_ref().and_then(|extra| extra.replaced_by);
        let replacement = replaced_by.and_then(|id| self.orders.by_id(id));
        let holds = |row: &RowId| {
            let receipts = self.orders.row(*row).receipts();
            receipts.iter().any(|receipt| receipt.capture.repeats(capture))
        };
        [Some(row_id), replacement]
            .into_iter()
            .flatten()
            .find(holds)
            .filter(|_| !mutant!("capture-not-deduplicated"))
    }

    fn decide_late(
        &self,
        now: Timestamp,
        row: &OrderRow,
        capture: &Capture,
        replacement: OrderId,
    ) -> Result<OrderChange, RefundReason> {
        let offer = &self.terms.offers()[row.offer as usize];
        if offer.late_capture() != LateCapture::Retake {
            return Err(RefundReason::OrderClosed);
        }
        if row.extra.as_ref().is_some_and(|extra| extra.replaced_by.is_some()) {
            return Err(RefundReason::PaidTwice);
        }
        let allowed = self.exceeded(row.user, row.subjects(), row.offer, row.quantity.value()).is_none();
        if !allowed || !self.has_units(row) || self.orders.by_id(replacement).is_some() {
            return Err(RefundReason::NoUnits);
        }
        let placed = Placed {
            sku: offer.sku(),
            quantity: row.quantity,
            amount: Money::new(row.amount(), offer.price().currency()).unwrap_or_else(|_| offer.price()),
            idempotency: None,
            subjects: row.subjects(),
            placed_at: now,
            deadline: None,
        };
        Ok(OrderChange::Retaken { placed, replaces: row.id, capture: capture.clone() })
    }

    fn has_units(&self, row: &OrderRow) -> bool {
        self.units[row.offer as usize].available >= row.units()
    }

    fn units_left(&self, offer: u32) -> u32 {
        u32::try_from(self.units[offer as usize].available.max(0)).unwrap_or(u32::MAX)
    }

    /// The next order that is due at `now`, and what happens to it. Changes nothing.
    pub(super) fn decide_due(&self, now: Timestamp) -> Option<(RowId, OrderChange, Option<Closing>)> {
        let (due, row_id) = *self.deadlines.first()?;
        if due > now {
            return None;
        }
        let row = self.orders.row(row_id);
        let open = row.payments().last().filter(|_| row.status == OrderStatus::Paying);
        let Some(payment) = open else {
            return Some((row_id, OrderChange::Expired, None));
        };
        let timing = self.terms.timing();
        let last = payment.deadline.after(timing.close_grace);
        if last <= now {
            return Some((row_id, OrderChange::Expired, None));
        }
        let retry = now.after(timing.close_retry.max(std::time::Duration::from_millis(1)));
        let retry_at = retry.min(last);
        let closing = Closing {
            order: OrderKey { activity: self.lane.activity, user: row.user, id: row.id },
            payment: payment.id,
            provider: payment.provider.clone(),
            retry_at,
        };
        Some((row_id, OrderChange::ClosingClaimed { retry_at }, Some(closing)))
    }
}

fn cancelled(by: Option<&Attribution>) -> OrderChange {
    by.map_or(OrderChange::Cancelled, |by| OrderChange::CancelledBy(by.clone()))
}

fn decide_ended(
    row_id: RowId,
    row: &OrderRow,
    payment: PaymentId,
    ended: PaymentStatus,
    next: OrderStatus,
) -> Decision {
    let Some(known) = row.payments().iter().find(|known| known.id == payment) else {
        return Decline(Advanced::NotFound);
    };
    if row.status != OrderStatus::Paying || known.status != PaymentStatus::Open {
        return Replay(row_id);
    }
    match next {
        OrderStatus::Expired => Change(row_id, OrderChange::Expired),
        _ => Change(row_id, OrderChange::PaymentEnded { payment, status: ended }),
    }
}

fn decide_refund(
    row_id: RowId,
    row: &OrderRow,
    units_returned: bool,
    by: &crate::domain::Attribution,
) -> Decision {
    if row.status != OrderStatus::Paid {
        return Decline(Advanced::WrongState(row.status));
    }
    // An order of amount 0 has no receipt; what a refund can give back are its units.
    let is_free = row.amount() == 0 && units_returned && !row.units_returned;
    if is_free || row.receipts().iter().any(|receipt| receipt.proceeds == Proceeds::Paid) {
        Change(row_id, OrderChange::Refunded { units_returned, by: by.clone() })
    } else {
        Replay(row_id)
    }
}

fn decide_settled(
    row_id: RowId,
    row: &OrderRow,
    payment: PaymentId,
    provider: &Provider,
    transaction: &str,
    status: RefundStatus,
) -> Decision {
    let receipt = row.receipts().iter().find(|Receipt { capture, .. }| {
        (capture.payment, &capture.provider, capture.transaction.as_str()) == (payment, provider, transaction)
    });
    match receipt.map(|receipt| &receipt.proceeds) {
        Some(Proceeds::Refund(refund)) if refund.status == status || refund.status == RefundStatus::Done => {
            Replay(row_id)
        }
        Some(Proceeds::Refund(_)) => match Bounded::new(transaction) {
            Ok(transaction) => {
                let provider = provider.clone();
                Change(row_id, OrderChange::RefundEnded { payment, provider, transaction, status })
            }
            Err(_) => Decline(Advanced::NotFound),
        },
        Some(Proceeds::Paid) => Decline(Advanced::WrongState(row.status)),
        None => Decline(Advanced::NotFound),
    }
}
