//! Events of orders: what each does to an order, and to the units, limits and deadline that follow
//! from its status.

use super::{
    lane::{CorruptState, LaneState},
    orders::RowId,
    units::Holding,
};
use crate::{
    domain::{
        Capture, Order, OrderId, OrderStatus, Payment, PaymentStatus, Proceeds, Receipt, Refund,
        RefundReason, RefundStatus, Timestamp, UserId,
    },
    ledger::{LedgerRole, OrderChange, Placed},
};

impl LaneState {
    /// Adds an order that comes from another ledger or from an image.
    pub(super) fn insert(&mut self, order: &Order) -> Result<(), CorruptState> {
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
        if order.replaces.is_some() || order.replaced_by.is_some() {
            let extra = row.extra_mut();
            extra.replaces = order.replaces;
            extra.replaced_by = order.replaced_by;
        }
        if row.has_refund_due() {
            self.refunds.insert(row_id);
        }
        self.buyers.insert(user);
        self.follow_status(row_id, None);
        Ok(())
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
                self.orders
                    .add_receipt(row_id, Receipt { capture: capture.clone(), proceeds: Proceeds::Paid });
                let old = self.owned(user, *replaces).ok_or(CorruptState("the replaced order is unknown"))?;
                let old = self.orders.row_mut(old);
                old.revision = revision;
                old.extra_mut().replaced_by = Some(id);
                old.set_payment_status(capture.payment, PaymentStatus::Captured);
                Ok(())
            }
            _ => {
                let row_id = self.orders.by_id(id).ok_or(CorruptState("the order is unknown"))?;
                self.orders.row_mut(row_id).revision = revision;
                self.advance_order(row_id, change);
                Ok(())
            }
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
                self.set_status(row_id, OrderStatus::Paying);
            }
            OrderChange::PaymentEnded { payment, status } => {
                row.set_payment_status(*payment, *status);
                self.set_status(row_id, OrderStatus::Pending);
            }
            OrderChange::Paid(capture) => {
                row.set_payment_status(capture.payment, PaymentStatus::Captured);
                self.orders
                    .add_receipt(row_id, Receipt { capture: capture.clone(), proceeds: Proceeds::Paid });
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
                let proceeds = Proceeds::Refund(Refund { reason: *reason, status: RefundStatus::Due });
                self.orders.add_receipt(row_id, Receipt { capture: capture.clone(), proceeds });
                self.refunds.insert(row_id);
            }
            OrderChange::Refunded { units_returned, .. } => {
                let before = self.holding(row_id);
                let row = self.orders.row_mut(row_id);
                let refund = Refund { reason: RefundReason::Operator, status: RefundStatus::Due };
                for receipt in &mut row.extra_mut().receipts {
                    if receipt.proceeds == Proceeds::Paid {
                        receipt.proceeds = Proceeds::Refund(refund);
                    }
                }
                row.units_returned = *units_returned;
                if row.has_refund_due() {
                    self.refunds.insert(row_id);
                }
                self.move_units(row_id, before);
            }
            OrderChange::RefundSettled { provider, transaction, status } => {
                let is_it =
                    |known: &Capture| known.provider == *provider && known.transaction == *transaction;
                self.end_refund(row_id, is_it, *status);
            }
            OrderChange::RefundEnded { payment, provider, transaction, status } => {
                let is_it = |known: &Capture| {
                    (known.payment, &known.provider, &known.transaction) == (*payment, provider, transaction)
                };
                self.end_refund(row_id, is_it, *status);
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

    fn end_refund(&mut self, row_id: RowId, is_it: impl Fn(&Capture) -> bool, status: RefundStatus) {
        let row = self.orders.row_mut(row_id);
        for Receipt { capture, proceeds } in &mut row.extra_mut().receipts {
            if is_it(capture)
                && let Proceeds::Refund(refund) = proceeds
            {
                refund.status = status;
            }
        }
        if !row.has_refund_due() {
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
        if let Some(row_id) = self.orders.by_id(id) {
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
        Holding::of(self.strategy(row.offer), row.status, row.units_returned)
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
