//! Deciding the steps of an order's life: the status table, cell by cell.

use super::{
    lane::LaneState,
    orders::{Slot, SlotId},
};
use crate::{
    domain::{
        By, Capture, LateCapture, Money, OrderId, OrderKey, OrderStatus, PaymentId, PaymentStatus, Proceeds,
        Provider, RefundReason, RefundStatus, Strategy, Timestamp, text::Bounded,
    },
    ledger::{Advance, Advanced, Closing, OrderChange, Placed},
};

/// What a step comes to.
#[derive(Debug)]
pub(super) enum Decision {
    /// The order changes, and the caller is told that the step was taken.
    Change(SlotId, OrderChange),
    /// Money was taken that goes back.
    RefundDue(SlotId, OrderChange, RefundReason),
    /// A new order replaces the expired one.
    Retake(OrderId, OrderChange),
    /// Nothing changes: the step was taken before, or means nothing now.
    Replay(SlotId),
    /// Nothing changes.
    Decline(Advanced),
}

use Decision::{Change, Decline, Replay, Retake};

/// How often a payment may be opened for one order.
const MAX_PAYMENTS: usize = 32;

impl LaneState {
    /// Decides a step at `now`, which is the lane's time, without changing anything.
    pub(super) fn decide_advance(&self, now: Timestamp, step: &Advance) -> Decision {
        let key = step.order();
        let Some(slot_id) = self.owned(key.user, key.id) else {
            return Decline(Advanced::NotFound);
        };
        let slot = self.orders.slot(slot_id);
        match step {
            Advance::OpenPayment { payment, provider, .. } => {
                self.decide_open(now, slot_id, slot, *payment, provider)
            }
            Advance::Capture { capture, replacement, .. } => {
                self.decide_capture(now, slot_id, slot, capture, *replacement)
            }
            Advance::PaymentFailed { payment, .. } => {
                decide_ended(slot_id, slot, *payment, PaymentStatus::Failed, OrderStatus::Pending)
            }
            Advance::PaymentClosed { payment, .. } => {
                let over = slot.payments().last().is_some_and(|payment| payment.deadline <= now);
                let next = if over { OrderStatus::Expired } else { OrderStatus::Pending };
                decide_ended(slot_id, slot, *payment, PaymentStatus::Closed, next)
            }
            Advance::Cancel { by, .. } => match slot.status {
                OrderStatus::Pending => Change(slot_id, cancelled(by.as_ref())),
                OrderStatus::Paying if mutant!("cancel-while-paying") => {
                    Change(slot_id, cancelled(by.as_ref()))
                }
                OrderStatus::Cancelled => Replay(slot_id),
                status => Decline(Advanced::WrongState(status)),
            },
            Advance::Refund { units_returned, by, .. } => decide_refund(slot_id, slot, *units_returned, by),
            Advance::RefundSettled { provider, transaction, outcome, .. } => {
                decide_settled(slot_id, slot, provider, transaction, (*outcome).into())
            }
        }
    }

    fn decide_open(
        &self,
        now: Timestamp,
        slot_id: SlotId,
        slot: &Slot,
        payment: PaymentId,
        provider: &Provider,
    ) -> Decision {
        match self.orders.by_payment(payment) {
            Some(owner) if owner == slot_id => return Replay(slot_id),
            Some(_) => return Decline(Advanced::IdTaken),
            None => {}
        }
        match slot.status {
            OrderStatus::Paying => Replay(slot_id),
            OrderStatus::Pending if slot.payments().len() >= MAX_PAYMENTS => {
                Decline(Advanced::WrongState(OrderStatus::Pending))
            }
            OrderStatus::Pending => {
                if self.strategy(slot.offer) == Strategy::PayTime && !self.has_units(slot) {
                    return Decline(Advanced::SoldOut { available: self.units_left(slot.offer) });
                }
                let deadline = self.payment_deadline(now, slot.deadline);
                Change(slot_id, OrderChange::PaymentOpened { payment, provider: provider.clone(), deadline })
            }
            status => Decline(Advanced::WrongState(status)),
        }
    }

    /// The payment window from now on, but not before the order's own deadline and not later than the cap after it.
    fn payment_deadline(&self, now: Timestamp, deadline: Timestamp) -> Timestamp {
        let timing = self.terms.timing();
        let end = now.after(timing.payment_window);
        if deadline == Timestamp::MAX { end } else { end.clamp(deadline, deadline.after(timing.payment_cap)) }
    }

    fn decide_capture(
        &self,
        now: Timestamp,
        slot_id: SlotId,
        slot: &Slot,
        capture: &Capture,
        replacement: OrderId,
    ) -> Decision {
        if !mutant!("capture-not-deduplicated")
            && let Some(holder) = self.orders.by_capture(capture)
        {
            return Replay(holder);
        }
        let Some(payment) = slot.payments().iter().find(|payment| payment.id == capture.payment) else {
            return Decline(Advanced::NotFound);
        };
        let refund = |reason| {
            Decision::RefundDue(slot_id, OrderChange::RefundDue { capture: capture.clone(), reason }, reason)
        };
        if payment.provider != capture.provider && slot.status != OrderStatus::Paid {
            return refund(RefundReason::WrongProvider);
        }
        let paid = || Change(slot_id, OrderChange::Paid(capture.clone()));
        let currency = self.terms.offers()[slot.offer as usize].price().currency();
        if !mutant!("amount-not-compared") && (capture.amount, capture.currency) != (slot.amount(), currency)
        {
            return refund(RefundReason::WrongAmount);
        }
        match slot.status {
            OrderStatus::Paying => paid(),
            OrderStatus::Pending
                if self.strategy(slot.offer) != Strategy::PayTime || self.has_units(slot) =>
            {
                paid()
            }
            OrderStatus::Pending => refund(RefundReason::NoUnits),
            OrderStatus::Paid => refund(RefundReason::PaidTwice),
            OrderStatus::Cancelled if mutant!("late-capture-revives") => paid(),
            OrderStatus::Cancelled | OrderStatus::Refused => refund(RefundReason::OrderClosed),
            OrderStatus::Expired => self
                .decide_late(now, slot, capture, replacement)
                .map_or_else(refund, |change| Retake(replacement, change)),
        }
    }

    fn decide_late(
        &self,
        now: Timestamp,
        slot: &Slot,
        capture: &Capture,
        replacement: OrderId,
    ) -> Result<OrderChange, RefundReason> {
        let offer = &self.terms.offers()[slot.offer as usize];
        if offer.late_capture() != LateCapture::Retake {
            return Err(RefundReason::OrderClosed);
        }
        if slot.extra.as_ref().is_some_and(|extra| extra.replaced_by.is_some()) {
            return Err(RefundReason::PaidTwice);
        }
        let allowed = self.exceeded(slot.user, slot.subjects(), slot.offer, slot.quantity.value()).is_none();
        if !allowed || !self.has_units(slot) || self.orders.by_id(replacement).is_some() {
            return Err(RefundReason::NoUnits);
        }
        let placed = Placed {
            sku: offer.sku(),
            quantity: slot.quantity,
            amount: Money::new(slot.amount(), offer.price().currency()).unwrap_or_else(|_| offer.price()),
            idempotency: None,
            subjects: slot.subjects(),
            placed_at: now,
            deadline: None,
        };
        Ok(OrderChange::Retaken { placed, replaces: slot.id, capture: capture.clone() })
    }

    fn has_units(&self, slot: &Slot) -> bool {
        self.units[slot.offer as usize].available >= slot.units()
    }

    fn units_left(&self, offer: u32) -> u32 {
        u32::try_from(self.units[offer as usize].available.max(0)).unwrap_or(u32::MAX)
    }

    /// What is due at `now` next, without changing anything.
    pub(super) fn decide_due(&self, now: Timestamp) -> Option<(SlotId, OrderChange, Option<Closing>)> {
        let (due, slot_id) = *self.deadlines.first()?;
        if due > now {
            return None;
        }
        let slot = self.orders.slot(slot_id);
        let open = slot.payments().last().filter(|_| slot.status == OrderStatus::Paying);
        let Some(payment) = open else {
            return Some((slot_id, OrderChange::Expired, None));
        };
        let timing = self.terms.timing();
        let last = payment.deadline.after(timing.close_grace);
        if last <= now {
            return Some((slot_id, OrderChange::Expired, None));
        }
        let retry = now.after(timing.close_retry.max(std::time::Duration::from_millis(1)));
        let retry_at = retry.min(last);
        let closing = Closing {
            order: OrderKey { activity: self.lane.activity, user: slot.user, id: slot.id },
            payment: payment.id,
            provider: payment.provider.clone(),
            retry_at,
        };
        Some((slot_id, OrderChange::ClosingClaimed { retry_at }, Some(closing)))
    }
}

fn cancelled(by: Option<&By>) -> OrderChange {
    by.map_or(OrderChange::Cancelled, |by| OrderChange::CancelledBy(by.clone()))
}

fn decide_ended(
    slot_id: SlotId,
    slot: &Slot,
    payment: PaymentId,
    ended: PaymentStatus,
    next: OrderStatus,
) -> Decision {
    let Some(known) = slot.payments().iter().find(|known| known.id == payment) else {
        return Decline(Advanced::NotFound);
    };
    if slot.status != OrderStatus::Paying || known.status != PaymentStatus::Open {
        return Replay(slot_id);
    }
    match next {
        OrderStatus::Expired => Change(slot_id, OrderChange::Expired),
        _ => Change(slot_id, OrderChange::PaymentEnded { payment, status: ended }),
    }
}

fn decide_refund(slot_id: SlotId, slot: &Slot, units_returned: bool, by: &crate::domain::By) -> Decision {
    if slot.status != OrderStatus::Paid {
        return Decline(Advanced::WrongState(slot.status));
    }
    if slot.receipts().iter().any(|receipt| receipt.proceeds == Proceeds::Paid) {
        Change(slot_id, OrderChange::Refunded { units_returned, by: by.clone() })
    } else {
        Replay(slot_id)
    }
}

fn decide_settled(
    slot_id: SlotId,
    slot: &Slot,
    provider: &Provider,
    transaction: &str,
    status: RefundStatus,
) -> Decision {
    let receipt = slot.receipts().iter().find(|receipt| {
        receipt.capture.provider == *provider && receipt.capture.transaction.as_str() == transaction
    });
    match receipt.map(|receipt| &receipt.proceeds) {
        Some(Proceeds::Refund(refund)) if refund.status == status || refund.status == RefundStatus::Done => {
            Replay(slot_id)
        }
        Some(Proceeds::Refund(_)) => match Bounded::new(transaction) {
            Ok(transaction) => Change(
                slot_id,
                OrderChange::RefundSettled { provider: provider.clone(), transaction, status },
            ),
            Err(_) => Decline(Advanced::NotFound),
        },
        Some(Proceeds::Paid) => Decline(Advanced::WrongState(slot.status)),
        None => Decline(Advanced::NotFound),
    }
}
