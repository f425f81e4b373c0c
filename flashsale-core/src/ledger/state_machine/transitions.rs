//! Deciding the steps of an order's life: the status table, cell by cell.

use std::cmp::Ordering;

use super::{
    lane::LaneState,
    order_events::{owed, own_refund, own_refunds},
    orders::{OrderRow, RowId},
};
use crate::{
    domain::{
        Attribution, Capture, LateCapture, Money, OrderId, OrderKey, OrderStatus, PaymentId, PaymentStatus,
        Proceeds, Provider, Receipt, RefundOrder, RefundReason, RefundStatus, ReversalKind, ReversalReport,
        Strategy, Timestamp,
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

/// The most reversals and the most ordered refunds of one order.
const MAX_REVERSALS: usize = 64;

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
            Advance::Capture { capture, in_parts, replacement, .. } => {
                self.decide_capture(now, row_id, row, capture, *in_parts, *replacement)
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
            Advance::Refund { refund, by, .. } => decide_refund(row_id, row, refund, by),
            Advance::Reversal { report, .. } => self.decide_reversal(row_id, report),
            Advance::RefundSettled { payment, provider, transaction, number, outcome, .. } => {
                let of = |receipt: &&Receipt| {
                    let capture = &receipt.capture;
                    (capture.payment, &capture.provider, capture.transaction.as_str())
                        == (*payment, provider, transaction)
                };
                decide_settled(row_id, row.receipts().iter().find(of), *number, (*outcome).into())
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
            Some(owner) if owner == (row.user, row.id) => return Replay(row_id),
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
        in_parts: bool,
        replacement: OrderId,
    ) -> Decision {
        let Some(payment) = row.payments().iter().find(|payment| payment.id == capture.payment) else {
            return Decline(Advanced::NotFound);
        };
        if let Some(holder) = self.repeated(row_id, capture) {
            return Replay(holder);
        }
        let is_open = row.status == OrderStatus::Paying && payment.status == PaymentStatus::Open;
        let can_be_new =
            is_open && !row.receipts().iter().any(|receipt| receipt.capture.is_same_transaction(capture));
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
        let parts = row.receipts().iter().filter(|receipt| {
            receipt.proceeds == Proceeds::Part && receipt.capture.payment == capture.payment
        });
        let came = parts.map(Receipt::kept).sum();
        let awaited =
            if mutant!("parts-not-added") { row.amount() } else { row.amount().saturating_sub(came) };
        if capture.currency != currency && !mutant!("amount-not-compared") {
            return refund(RefundReason::WrongAmount);
        }
        match capture.amount.cmp(&awaited) {
            Ordering::Equal => {}
            Ordering::Less if is_open && in_parts && capture.amount > 0 => {
                return Change(row_id, OrderChange::PartPaid(capture.clone()));
            }
            Ordering::Greater if is_open && in_parts => {}
            _ if mutant!("amount-not-compared") => {}
            _ => return refund(RefundReason::WrongAmount),
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

    /// An order and the one that replaced it: money of its payments belongs to either.
    fn with_replacement(&self, row_id: RowId) -> impl Iterator<Item = RowId> {
        let row = self.orders.row(row_id);
        let replaced_by = row.extra.as_ref().and_then(|extra| extra.replaced_by);
        [Some(row_id), replaced_by.and_then(|id| self.owned(row.user, id))].into_iter().flatten()
    }

    /// The order that holds the receipt of a repeated report.
    fn repeated(&self, row_id: RowId, capture: &Capture) -> Option<RowId> {
        if mutant!("capture-known-by-event-alone") {
            return self.orders.by_capture(capture);
        }
        let holds = |row: &RowId| {
            let receipts = self.orders.row(*row).receipts();
            receipts.iter().any(|receipt| receipt.capture.repeats(capture))
        };
        self.with_replacement(row_id).find(holds).filter(|_| !mutant!("capture-not-deduplicated"))
    }

    /// Decides on money that the provider sent back, and on disputes.
    fn decide_reversal(&self, row_id: RowId, report: &ReversalReport) -> Decision {
        let known = |row_id: RowId| self.orders.row(row_id).reversals();
        let money = |row_id: RowId| {
            let receipts = self.orders.row(row_id).receipts().iter();
            receipts.filter(|receipt| receipt.is_reversed_by(report))
        };
        for holder in self.with_replacement(row_id) {
            let names_capture =
                money(holder).any(|receipt| receipt.capture.transaction == report.transaction);
            let known = known(holder).iter().find_map(|known| judge(known, report, names_capture));
            match known.filter(|_| !mutant!("reversal-not-deduplicated")) {
                Some(Known::Repeat) => return Replay(holder),
                Some(Known::Contradiction) => return Decline(Advanced::Conflict),
                None => {}
            }
        }
        let receipts = |row_id: RowId| self.orders.row(row_id).receipts();
        let Some(holder) = self.with_replacement(row_id).max_by_key(|row_id| fit(receipts(*row_id), report))
        else {
            return Decline(Advanced::NotFound);
        };
        if money(holder).next().is_none() {
            let of_payment = |receipt: &Receipt| receipt.capture.payment == report.payment;
            let in_other_currency = receipts(holder).iter().any(of_payment);
            return Decline(if in_other_currency { Advanced::Conflict } else { Advanced::NotFound });
        }
        let ours = own_refund(receipts(holder), report);
        if report.kind == ReversalKind::Refunded
            && ours.is_some_and(|ours| is_unclear(receipts(holder), report, ours))
        {
            // Which refund it is shows when one of them is settled.
            return Decline(Advanced::NotFound);
        }
        let unreturned = money(holder).fold(0_u64, |sum, receipt| sum.saturating_add(receipt.unreturned()));
        let is_possible = match report.kind {
            ReversalKind::Refunded => report.amount > 0 && (report.amount <= unreturned || ours.is_some()),
            ReversalKind::Disputed | ReversalKind::DisputeWon | ReversalKind::DisputeLost => true,
        };
        if !is_possible || known(holder).len() >= MAX_REVERSALS {
            return Decline(Advanced::Conflict);
        }
        Change(holder, OrderChange::Reversed(report.clone()))
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
        if !allowed || !self.has_units(row) || self.owned(row.user, replacement).is_some() {
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

fn decide_refund(row_id: RowId, row: &OrderRow, refund: &RefundOrder, by: &Attribution) -> Decision {
    if row.status != OrderStatus::Paid {
        return Decline(Advanced::WrongState(row.status));
    }
    let known = row.extra.iter().flat_map(|extra| &extra.refund_orders);
    if let Some(known) = known.clone().find(|known| known.key == refund.key)
        && !mutant!("refund-key-ignored")
    {
        return if known == refund { Replay(row_id) } else { Decline(Advanced::KeyReused) };
    }
    let paid = row.receipts().iter().filter(|receipt| receipt.proceeds == Proceeds::Paid);
    let left = paid.fold(0_u64, |sum, receipt| sum.saturating_add(receipt.kept()));
    let (amount, units) = (refund.amount.unwrap_or(left), refund.units.unwrap_or(row.units_left()));
    let is_too_much = amount > left || units > row.units_left();
    if known.count() >= MAX_REVERSALS {
        return Decline(Advanced::WrongState(row.status));
    }
    if is_too_much && !mutant!("refund-beyond-capture") {
        return Decline(Advanced::TooMuch { amount: left, units: row.units_left() });
    }
    if amount == 0 && units == 0 {
        return Replay(row_id);
    }
    Change(row_id, OrderChange::RefundOrdered { refund: *refund, by: by.clone() })
}

/// How well the money of an order fits a report. An order and its replacement can both hold money of
/// the payment: the report is about the one whose capture it names, or one of whose refunds it may
/// be, or that owes money.
fn fit(receipts: &[Receipt], report: &ReversalReport) -> (bool, bool, bool, u64, usize) {
    let money: Vec<_> = receipts.iter().filter(|receipt| receipt.is_reversed_by(report)).collect();
    let is_exact = money.iter().any(|receipt| receipt.capture.transaction == report.transaction);
    let unreturned = money.iter().fold(0_u64, |sum, receipt| sum.saturating_add(receipt.unreturned()));
    let is_owed = money.iter().any(|receipt| owed(receipt) > 0);
    (is_exact, own_refund(receipts, report).is_some(), is_owed, unreturned, money.len())
}

/// Whether a report may as well be about another refund of ours that is due. Marking the wrong one
/// would keep the other from being sent.
fn is_unclear(receipts: &[Receipt], report: &ReversalReport, (at, number): (usize, usize)) -> bool {
    let is_exact = |at: usize| receipts[at].capture.transaction == report.transaction;
    let is_due = |at: usize, number: usize| receipts[at].refunds[number].status == RefundStatus::Due;
    let mut others = own_refunds(receipts, report).filter(|other| *other != (at, number));
    is_due(at, number) && others.any(|other| is_exact(other.0) == is_exact(at) && is_due(other.0, other.1))
}

/// What a known report means for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Repeat,
    Contradiction,
}

/// Compares a report with a known one; `None` if they are about different things. Several parts of
/// one captured transaction can be sent back under its id.
fn judge(known: &ReversalReport, report: &ReversalReport, names_capture: bool) -> Option<Known> {
    let same_money = (known.amount, known.currency) == (report.amount, report.currency);
    if known.is_same_event(report) {
        return Some(if known.repeats(report) { Known::Repeat } else { Known::Contradiction });
    }
    if !known.is_same_transaction(report) {
        return None;
    }
    let is_end = |kind| matches!(kind, ReversalKind::DisputeWon | ReversalKind::DisputeLost);
    match (known.kind, report.kind) {
        (ReversalKind::Refunded, ReversalKind::Refunded) if names_capture => None,
        (known, new) if known == new => Some(if same_money { Known::Repeat } else { Known::Contradiction }),
        (known, new) if is_end(known) && is_end(new) => Some(Known::Contradiction),
        _ => None,
    }
}

fn decide_settled(row_id: RowId, receipt: Option<&Receipt>, number: u32, status: RefundStatus) -> Decision {
    let Some(receipt) = receipt else { return Decline(Advanced::NotFound) };
    match receipt.refunds.get(number as usize) {
        None => Decline(Advanced::NotFound),
        Some(refund) if refund.status == status || refund.status == RefundStatus::Done => Replay(row_id),
        Some(_) => {
            let Capture { payment, provider, transaction, .. } = receipt.capture.clone();
            Change(row_id, OrderChange::RefundEnded { payment, provider, transaction, number, status })
        }
    }
}
