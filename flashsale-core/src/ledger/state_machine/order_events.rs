//! Events of orders: what each does to an order, and to the units, limits and deadline that follow
//! from its status.

use super::{
    lane::{CorruptState, LaneState},
    orders::{OrderRow, RowId},
    units::Holding,
};
use crate::{
    domain::{
        Capture, Order, OrderId, OrderStatus, Payment, PaymentStatus, Proceeds, Receipt, Refund,
        RefundReason, RefundStatus, ReversalKind, ReversalReport, Timestamp, UserId,
    },
    ledger::{LedgerRole, OrderChange, Placed},
};

impl LaneState {
    /// Adds an order that comes from another ledger or from an image.
    pub(super) fn insert(&mut self, order: &Order) -> Result<(), CorruptState> {
        let row_id = self.add(order)?;
        self.follow_status(row_id, None);
        Ok(())
    }

    /// Adds an order whose units are counted already, and those of its device and address.
    pub(super) fn admit_order(&mut self, order: &Order, due: Option<Timestamp>) -> Result<(), CorruptState> {
        let row_id = self.add(order)?;
        let row = self.orders.row(row_id);
        if row.status.counts_for_limits() {
            self.counters.add_user(row);
        }
        self.set_due(row_id, due.unwrap_or(Timestamp::MAX));
        Ok(())
    }

    fn add(&mut self, order: &Order) -> Result<RowId, CorruptState> {
        let offer = self.index(order.sku)?;
        let placed = Placed {
            sku: order.sku,
            quantity: order.quantity,
            amount: order.amount,
            idempotency: order.idempotency,
            subjects: order.subjects,
            placed_at: order.placed_at,
            deadline: order.deadline,
        };
        let user = order.key.user;
        let row_id = self.orders.insert(order.key.id, user, offer, &placed, order.status, order.revision);
        for payment in &order.payments {
            self.orders.add_payment(row_id, payment.clone());
        }
        for receipt in &order.receipts {
            self.orders.add_receipt(row_id, receipt.clone());
        }
        let row = self.orders.row_mut(row_id);
        row.persisted = order.persisted;
        row.units_returned = order.units_returned;
        let linked = order.replaces.is_some() || order.replaced_by.is_some();
        if linked || !order.reversals.is_empty() || !order.refund_orders.is_empty() {
            let extra = row.extra_mut();
            extra.replaces = order.replaces;
            extra.replaced_by = order.replaced_by;
            extra.reversals.clone_from(&order.reversals);
            extra.refund_orders.clone_from(&order.refund_orders);
        }
        self.follow_refunds(row_id);
        self.buyers.insert(user);
        Ok(row_id)
    }

    /// Applies an event of this lane to an order. `revision` is the event's sequence.
    pub(super) fn change_order(
        &mut self,
        revision: u64,
        id: OrderId,
        user: UserId,
        change: &OrderChange,
    ) -> Result<(), CorruptState> {
        match change {
            OrderChange::Placed(placed) => {
                self.place(revision, id, user, placed, OrderStatus::Pending).map(|_| ())
            }
            OrderChange::PlacedFree(placed) => {
                self.place(revision, id, user, placed, OrderStatus::Paid).map(|_| ())
            }
            OrderChange::Refused(placed) => {
                self.place(revision, id, user, placed, OrderStatus::Refused).map(|_| ())
            }
            OrderChange::Retaken { placed, replaces, capture } => {
                let row_id = self.place(revision, id, user, placed, OrderStatus::Paid)?;
                self.orders.row_mut(row_id).extra_mut().replaces = Some(*replaces);
                self.book(row_id, capture, Proceeds::Paid);
                let old = self.owned(user, *replaces).ok_or(CorruptState("the replaced order is unknown"))?;
                let disputes = self.orders.row(old).reversals().iter();
                let disputes = disputes.filter(|report| report.kind != ReversalKind::Refunded);
                self.orders.row_mut(row_id).extra_mut().reversals = disputes.cloned().collect();
                self.note_replacement(revision, old, id, capture);
                Ok(())
            }
            _ => {
                let row_id = self.owned(user, id).ok_or(CorruptState("the order is unknown"))?;
                self.orders.row_mut(row_id).revision = revision;
                self.advance_order(row_id, change);
                self.follow_refunds(row_id);
                Ok(())
            }
        }
    }

    /// Whether an event changes an order. A gate may have loaded the order after the event: then it
    /// shows the event already, and maybe later ones, which must not be applied once more.
    pub(super) fn is_changed_by(&self, row_id: RowId, revision: u64) -> bool {
        self.orders.row(row_id).revision < revision || mutant!("revision-not-compared")
    }

    /// Applies an event only to the order linked with the one that it names: a gate may have loaded
    /// that one after the event, and the linked one before.
    pub(super) fn change_linked(&mut self, revision: u64, row_id: RowId, change: &OrderChange) {
        match change {
            OrderChange::Retaken { replaces, capture, .. } => {
                let OrderRow { id, user, .. } = *self.orders.row(row_id);
                if let Some(old) = self.owned(user, *replaces) {
                    self.note_replacement(revision, old, id, capture);
                }
            }
            OrderChange::Reversed(report) => self.share_dispute(revision, row_id, report),
            _ => {}
        }
    }

    /// Records at an expired order that another one replaced it.
    fn note_replacement(&mut self, revision: u64, old: RowId, id: OrderId, capture: &Capture) {
        if self.is_changed_by(old, revision) {
            let old = self.orders.row_mut(old);
            old.revision = revision;
            old.extra_mut().replaced_by = Some(id);
            old.set_payment_status(capture.payment, PaymentStatus::Captured);
        }
    }

    /// Applies a later step to an existing order.
    fn advance_order(&mut self, row_id: RowId, change: &OrderChange) {
        let row = self.orders.row_mut(row_id);
        match change {
            OrderChange::PaymentOpened { payment, provider, deadline } => {
                let (id, provider, deadline) = (*payment, provider.clone(), *deadline);
                let payment = Payment { id, provider, status: PaymentStatus::Open, deadline };
                self.orders.add_payment(row_id, payment);
                self.kept.remove(&id);
                self.set_status(row_id, OrderStatus::Paying);
            }
            OrderChange::PaymentEnded { payment, status } => {
                row.set_payment_status(*payment, *status);
                self.give_parts_back(row_id);
                self.set_status(row_id, OrderStatus::Pending);
            }
            OrderChange::PartPaid(capture) => self.book(row_id, capture, Proceeds::Part),
            OrderChange::Paid(capture) => {
                row.set_payment_status(capture.payment, PaymentStatus::Captured);
                self.book(row_id, capture, Proceeds::Paid);
                self.use_parts(row_id, capture);
                self.set_status(row_id, OrderStatus::Paid);
            }
            OrderChange::RefundDue { capture, reason } => {
                // The payment that the order is waiting for stays open.
                if row.status != OrderStatus::Paying
                    || row
                        .payment_mut(capture.payment)
                        .is_some_and(|known| known.status != PaymentStatus::Open)
                {
                    row.set_payment_status(capture.payment, PaymentStatus::Captured);
                }
                self.book(row_id, capture, Proceeds::Surplus);
                if let Some(receipt) = self.orders.row_mut(row_id).receipts_mut().last_mut() {
                    receipt.refund(capture.amount, *reason);
                }
            }
            OrderChange::Refunded { units_returned, .. } => {
                self.refund(row_id, None, (!units_returned).then_some(0));
            }
            OrderChange::RefundOrdered { refund, .. } => {
                row.extra_mut().refund_orders.push(*refund);
                self.refund(row_id, refund.amount, refund.units);
            }
            OrderChange::RefundSettled { provider, transaction, status } => {
                let is_it =
                    |known: &Capture| known.provider == *provider && known.transaction == *transaction;
                self.end_refund(row_id, is_it, 0, *status);
            }
            OrderChange::RefundEnded { payment, provider, transaction, number, status } => {
                let is_it = |known: &Capture| {
                    (known.payment, &known.provider, &known.transaction) == (*payment, provider, transaction)
                };
                self.end_refund(row_id, is_it, *number as usize, *status);
            }
            OrderChange::Reversed(report) => {
                match report.kind {
                    ReversalKind::Refunded => take_back(row.receipts_mut(), report, RefundReason::Provider),
                    ReversalKind::DisputeLost => take_back(row.receipts_mut(), report, RefundReason::Dispute),
                    ReversalKind::Disputed | ReversalKind::DisputeWon => {}
                }
                let revision = row.revision;
                row.add_reversal(report);
                self.share_dispute(revision, row_id, report);
            }
            OrderChange::ClosingClaimed { retry_at } => self.set_due(row_id, *retry_at),
            OrderChange::Cancelled | OrderChange::CancelledBy(_) => self.end(row_id, OrderStatus::Cancelled),
            OrderChange::Expired => self.end(row_id, OrderStatus::Expired),
            // These add orders; see `change_order`.
            OrderChange::Placed(_)
            | OrderChange::PlacedFree(_)
            | OrderChange::Refused(_)
            | OrderChange::Retaken { .. } => {}
        }
    }

    /// Records captured money.
    fn book(&mut self, row_id: RowId, capture: &Capture, proceeds: Proceeds) {
        let receipt = Receipt { capture: capture.clone(), at: self.now, proceeds, refunds: Vec::new() };
        self.orders.add_receipt(row_id, receipt);
    }

    /// Pays with the parts that came before the last one. What is too much is refunded, and so are
    /// parts of other payments.
    fn use_parts(&mut self, row_id: RowId, last: &Capture) {
        let row = self.orders.row_mut(row_id);
        let amount = row.amount();
        let mut paid = last.amount;
        for part in row.receipts_mut().iter_mut().filter(|receipt| receipt.proceeds == Proceeds::Part) {
            if part.capture.payment == last.payment {
                part.proceeds = Proceeds::Paid;
                paid = paid.saturating_add(part.kept());
            } else {
                part.proceeds = Proceeds::Surplus;
                part.refund(part.kept(), RefundReason::PaidTwice);
            }
        }
        if let Some(receipt) = row.receipts_mut().last_mut() {
            receipt.refund(paid.saturating_sub(amount), RefundReason::WrongAmount);
        }
    }

    /// Refunds the parts of a payment that ended without the rest.
    fn give_parts_back(&mut self, row_id: RowId) {
        if mutant!("parts-kept") {
            return;
        }
        let receipts = self.orders.row_mut(row_id).receipts_mut();
        for part in receipts.iter_mut().filter(|receipt| receipt.proceeds == Proceeds::Part) {
            part.proceeds = Proceeds::Surplus;
            part.refund(part.kept(), RefundReason::Incomplete);
        }
    }

    /// Refunds an amount and returns units of a paid order; `None` for all that is left.
    fn refund(&mut self, row_id: RowId, amount: Option<u64>, units: Option<u32>) {
        let row = self.orders.row_mut(row_id);
        let mut rest = amount.unwrap_or(u64::MAX);
        for receipt in row.receipts_mut().iter_mut().filter(|receipt| receipt.proceeds == Proceeds::Paid) {
            let part = rest.min(receipt.kept());
            receipt.refund(part, RefundReason::Operator);
            rest -= part;
        }
        let returned = units.unwrap_or(u32::MAX).min(row.units_left());
        row.units_returned += returned;
        let holding = Holding::of(self.terms.offers()[row.offer as usize].strategy(), row.status);
        if holding == Holding::Sold {
            self.units[row.offer as usize].transfer(returned.into(), Holding::Sold, Holding::Nothing);
        }
    }

    /// Records a dispute at the other order as well, if one replaced the other: either can hold
    /// money of the payment.
    fn share_dispute(&mut self, revision: u64, row_id: RowId, report: &ReversalReport) {
        let OrderRow { user, ref extra, .. } = *self.orders.row(row_id);
        let linked = extra.as_ref().and_then(|extra| extra.replaced_by.or(extra.replaces));
        if report.kind != ReversalKind::Refunded
            && let Some(linked) = linked.and_then(|id| self.owned(user, id))
            && self.is_changed_by(linked, revision)
        {
            let row = self.orders.row_mut(linked);
            row.revision = revision;
            row.add_reversal(report);
            self.follow_refunds(linked);
        }
    }

    fn end_refund(
        &mut self,
        row_id: RowId,
        is_it: impl Fn(&Capture) -> bool,
        number: usize,
        status: RefundStatus,
    ) {
        let receipts = self.orders.row_mut(row_id).receipts_mut();
        if let Some(refund) = receipts
            .iter_mut()
            .filter(|receipt| is_it(&receipt.capture))
            .find_map(|receipt| receipt.refunds.get_mut(number))
        {
            refund.status = status;
        }
    }

    /// Lists an order among those with refunds that can be sent, or no longer.
    fn follow_refunds(&mut self, row_id: RowId) {
        if self.orders.row(row_id).refunds_due().next().is_some() {
            self.refunds.insert(row_id);
        } else {
            self.refunds.remove(&row_id);
        }
    }

    fn place(
        &mut self,
        revision: u64,
        id: OrderId,
        user: UserId,
        placed: &Placed,
        status: OrderStatus,
    ) -> Result<RowId, CorruptState> {
        let offer = self.index(placed.sku)?;
        if let Some(row_id) = self.owned(user, id) {
            return self.confirm(revision, row_id, status);
        }
        let row_id = self.orders.insert(id, user, offer, placed, status, revision);
        self.orders.row_mut(row_id).persisted = self.role != LedgerRole::Gate;
        self.buyers.insert(user);
        self.follow_status(row_id, None);
        Ok(row_id)
    }

    /// Records at a gate that the truth persisted, refused, or gave away an order that it admitted.
    fn confirm(&mut self, revision: u64, row_id: RowId, status: OrderStatus) -> Result<RowId, CorruptState> {
        if self.role != LedgerRole::Gate {
            return Err(CorruptState("the order exists already"));
        }
        let row = self.orders.row_mut(row_id);
        row.revision = revision;
        row.persisted = true;
        match status {
            OrderStatus::Refused if row.status.is_open() => self.end(row_id, status),
            OrderStatus::Paid if row.status.is_open() => self.set_status(row_id, status),
            _ => {}
        }
        Ok(row_id)
    }

    /// Ends an unpaid order.
    fn end(&mut self, row_id: RowId, status: OrderStatus) {
        self.give_parts_back(row_id);
        let row = self.orders.row_mut(row_id);
        if let Some(payment) = row.extra.as_mut().and_then(|extra| extra.payments.last_mut())
            && payment.status == PaymentStatus::Open
        {
            payment.status = PaymentStatus::Closed;
        }
        self.set_status(row_id, status);
    }

    fn set_status(&mut self, row_id: RowId, status: OrderStatus) {
        let before = self.holding(row_id);
        let was = std::mem::replace(&mut self.orders.row_mut(row_id).status, status);
        self.orders.recount(row_id, was);
        self.follow_status(row_id, Some((was, before)));
    }

    /// Makes units, limits and deadline follow an order's status. `before` is its previous status
    /// and holding; `None` for a new order.
    fn follow_status(&mut self, row_id: RowId, before: Option<(OrderStatus, Holding)>) {
        self.move_units(row_id, before.map_or(Holding::Nothing, |(_, holding)| holding));
        let row = self.orders.row(row_id);
        let counted = before.is_some_and(|(status, _)| status.counts_for_limits());
        match (counted, row.status.counts_for_limits()) {
            (false, true) if !mutant!("limits-not-counted") => self.counters.add(row),
            (true, false) if !mutant!("limits-not-given-back") => self.counters.subtract(row),
            _ => {}
        }
        let due = match row.status {
            OrderStatus::Pending => row.deadline,
            OrderStatus::Paying => row.payments().last().map_or(Timestamp::MAX, |payment| payment.deadline),
            _ => Timestamp::MAX,
        };
        self.set_due(row_id, due);
    }

    fn holding(&self, row_id: RowId) -> Holding {
        let row = self.orders.row(row_id);
        Holding::of(self.strategy(row.offer), row.status)
    }

    /// Moves an order's units to where its status puts them.
    fn move_units(&mut self, row_id: RowId, from: Holding) {
        let to = self.holding(row_id);
        let row = self.orders.row(row_id);
        self.units[row.offer as usize].transfer(row.units(), from, to);
    }

    /// Sets an order's next deadline. A gate has no deadlines.
    pub(super) fn set_due(&mut self, row_id: RowId, due: Timestamp) {
        if self.role == LedgerRole::Gate {
            return;
        }
        let before = std::mem::replace(&mut self.orders.row_mut(row_id).due, due);
        if before != due && before != Timestamp::MAX {
            self.deadlines.remove(&(before, row_id));
        }
        if before != due && due != Timestamp::MAX {
            self.deadlines.insert((due, row_id));
        }
    }
}

/// Records that the provider sent back `report.amount` by itself: one of our refunds of this amount,
/// or else a new one, which reduces what we still owe.
fn take_back(receipts: &mut [Receipt], report: &ReversalReport, reason: RefundReason) {
    if reason == RefundReason::Provider
        && let Some((receipt, number)) = own_refund(receipts, report)
    {
        let ours = &mut receipts[receipt].refunds[number];
        ours.status = RefundStatus::Done;
        ours.reported = true;
        return;
    }
    let mut order: Vec<_> = (0..receipts.len()).filter(|at| receipts[*at].is_reversed_by(report)).collect();
    // The money that the report names, then money that goes back anyway, then the rest.
    order.sort_by_key(|at| {
        let receipt = &receipts[*at];
        (receipt.capture.transaction != report.transaction, owed(receipt) == 0)
    });
    let mut rest = report.amount;
    for at in order {
        let receipt = &mut receipts[at];
        let amount = rest.min(receipt.unreturned());
        rest -= amount;
        if amount > 0 {
            receipt.refunds.push(Refund { amount, reason, status: RefundStatus::Done, reported: true });
            owe_less(receipt, amount);
        }
    }
}

/// The refund of ours that a report is about, as the indices of receipt and refund: one of that
/// amount, not reported before. One of the named transaction comes first, then one that is done.
pub(super) fn own_refund(receipts: &[Receipt], report: &ReversalReport) -> Option<(usize, usize)> {
    own_refunds(receipts, report).min_by_key(|(receipt, number)| {
        let status = match receipts[*receipt].refunds[*number].status {
            RefundStatus::Done => 0,
            RefundStatus::Due => 1,
            RefundStatus::Failed => 2,
        };
        (receipts[*receipt].capture.transaction != report.transaction, status)
    })
}

/// All refunds of ours that a report may be about.
pub(super) fn own_refunds<'a>(
    receipts: &'a [Receipt],
    report: &'a ReversalReport,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let of_payment = receipts.iter().enumerate().filter(|(_, receipt)| receipt.is_reversed_by(report));
    of_payment.flat_map(|(at, receipt)| {
        let refunds = receipt.refunds.iter().enumerate();
        let same = refunds.filter(|(_, refund)| {
            !refund.reported && refund.amount == report.amount && !mutant!("own-refund-booked-twice")
        });
        same.map(move |(number, _)| (at, number))
    })
}

/// What we have ordered to send back and have not sent.
pub(super) fn owed(receipt: &Receipt) -> u64 {
    let open = receipt.refunds.iter().filter(|refund| refund.status != RefundStatus::Done);
    open.map(|refund| refund.amount).sum()
}

/// Reduces refunds that were not made by an amount that the provider sent instead.
fn owe_less(receipt: &mut Receipt, amount: u64) {
    let mut rest = amount;
    for refund in receipt.refunds.iter_mut().rev().filter(|refund| refund.status != RefundStatus::Done) {
        if mutant!("refunded-twice") {
            return;
        }
        let less = rest.min(refund.amount);
        refund.amount -= less;
        rest -= less;
        if refund.amount == 0 {
            refund.status = RefundStatus::Done;
        }
    }
}
