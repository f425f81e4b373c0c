//! Deciding a reserve: the order of precedence, in one function.

use super::{lane::LaneState, orders::RowId};
use crate::{
    domain::{Money, Selling, Timestamp},
    ledger::{Outcome, Placed, Reserve, ReserveMode},
};

/// The decision on a request for units.
#[derive(Debug)]
pub(super) enum Decision {
    /// A new order is placed.
    Place(Placed),
    /// The key already made this order.
    Replay(RowId),
    /// No order, for this reason.
    Decline(Outcome),
}

impl LaneState {
    /// Decides a request without changing anything. `now` is the lane's time.
    pub(super) fn decide_reserve(&self, now: Timestamp, request: &Reserve) -> Decision {
        use Decision::{Decline, Place, Replay};

        let Ok(offer) = self.index(request.sku) else {
            return Decline(Outcome::UnknownOffer);
        };
        if mutant!("stock-before-key") && self.takeable(offer) < i64::from(request.quantity.value()) {
            return Decline(Outcome::SoldOut { available: self.shown(offer) });
        }
        if let Some(row) = self.orders.by_key(request.user, request.idempotency.key) {
            let order = self.orders.row(row);
            if order.offer != offer || order.quantity != request.quantity {
                return Decline(Outcome::KeyReused);
            }
            return Replay(row);
        }
        match request.mode {
            ReserveMode::TicketExpired => return Decline(Outcome::TicketExpired),
            ReserveMode::SalesStopped if !mutant!("kill-switch-ignored") => return Decline(Outcome::Paused),
            ReserveMode::SalesStopped | ReserveMode::NewOrder => {}
        }
        let window = self.terms.window();
        if self.selling == Selling::Paused {
            return Decline(Outcome::Paused);
        }
        if now < window.starts_at() && self.selling != Selling::Ended {
            return Decline(Outcome::NotStarted { starts_at: window.starts_at() });
        }
        if (now >= window.ends_at() && !mutant!("window-end-ignored")) || self.selling == Selling::Ended {
            return Decline(Outcome::Ended);
        }
        if !mutant!("nonce-not-checked")
            && self.orders.by_nonce(request.user, request.idempotency.nonce).is_some()
        {
            return Decline(Outcome::TicketUsed);
        }
        if self.owned(request.user, request.order).is_some() {
            return Decline(Outcome::IdTaken);
        }
        let quantity = request.quantity.value();
        if let Some((rule, remaining)) = self.exceeded(request.user, request.subjects, offer, quantity) {
            return Decline(Outcome::LimitReached { rule, remaining });
        }
        let slack = i64::from(mutant!("one-unit-too-many"));
        if self.takeable(offer) + slack < i64::from(quantity) {
            return Decline(Outcome::SoldOut { available: self.shown(offer) });
        }
        let terms = &self.terms.offers()[offer as usize];
        let Ok(amount) = terms.price().times(quantity) else {
            // The amount overflows, so no such order can exist.
            return Decline(Outcome::SoldOut { available: 0 });
        };
        Place(self.placed(now, request, amount))
    }

    fn placed(&self, now: Timestamp, request: &Reserve, amount: Money) -> Placed {
        Placed {
            sku: request.sku,
            quantity: request.quantity,
            amount,
            idempotency: Some(request.idempotency),
            subjects: request.subjects,
            placed_at: now,
            deadline: self.hold_from(now, request.sku),
        }
    }

    /// When a hold that starts now ends. `None` for no deadline, and always at a gate.
    pub(super) fn hold_from(&self, now: Timestamp, sku: crate::domain::SkuId) -> Option<Timestamp> {
        if self.role == crate::ledger::LedgerRole::Gate {
            return None;
        }
        self.terms.offer(sku).and_then(|offer| offer.hold()).map(|hold| now.after(hold))
    }

    /// The units that an order could ask for, as told to a declined caller.
    pub(super) fn shown(&self, offer: u32) -> u32 {
        u32::try_from(self.takeable(offer)).unwrap_or(u32::MAX)
    }
}
