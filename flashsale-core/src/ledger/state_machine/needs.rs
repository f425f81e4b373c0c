//! The rows that a command touches.

use super::{excerpt::capture_keys, lane::LaneState, machine::StateMachine};
use crate::{
    domain::{Capture, Subject, Subjects, UserId},
    ledger::{
        Advance, Change, Command, Entry, Event, Lane, OrderChange,
        rows::{Needs, RowKey},
    },
};

impl StateMachine {
    /// The rows of a lane that a command touches, as far as this excerpt shows. Read them and ask again,
    /// until nothing is new.
    pub fn needs(&self, lane: Lane, command: &Command) -> Needs {
        let mut needs = Needs::default();
        needs.keys.extend([RowKey::Head, RowKey::Terms]);
        let state = self.lane(lane).ok();
        match command {
            Command::Open(terms) => {
                needs.keys.extend(terms.offers().iter().map(|offer| RowKey::Units(offer.sku())));
            }
            Command::Amend { change, .. } => {
                needs.all_buyers =
                    state.is_some_and(|state| is_new(state, change)) && !mutant!("row-orders-not-counted");
            }
            Command::Adjust(adjustment) => {
                needs.keys.insert(RowKey::Units(adjustment.sku));
                needs.keys.insert(RowKey::Adjustment(adjustment.id.clone()));
            }
            Command::StepTime(_) => needs.all_buyers = true,
            Command::Reserve { requests, .. } => {
                for request in requests {
                    needs.keys.insert(RowKey::Units(request.sku));
                    needs.buyers.insert(request.user);
                    if let Some(state) = state
                        && !mutant!("row-counter-not-read")
                    {
                        needs.keys.extend(state.counter_keys(request.sku, request.subjects));
                    }
                }
            }
            Command::Advance { steps, .. } => {
                for step in steps {
                    needs.buyers.insert(step.order().user);
                    match step {
                        Advance::OpenPayment { payment, .. } => {
                            needs.keys.insert(RowKey::Payment(*payment));
                            if !mutant!("row-kept-not-read") {
                                needs.keys.insert(RowKey::Kept(*payment));
                            }
                            let kept = state.and_then(|state| state.kept.get(payment));
                            needs.keys.extend(kept.into_iter().flatten().flat_map(capture_keys));
                        }
                        Advance::Capture { .. } if mutant!("row-capture-not-read") => {}
                        Advance::Capture { capture, .. } => needs.keys.extend(capture_keys(capture)),
                        _ => {}
                    }
                }
                state.into_iter().for_each(|state| state.add_orders(&mut needs));
            }
            Command::ExpireDue { limit, .. } => {
                // One more shows when the next one is due.
                needs.due = limit.saturating_add(1);
                state.into_iter().for_each(|state| state.add_orders(&mut needs));
            }
            Command::KeepUnmatched { capture: Capture { payment, .. }, .. } => {
                needs.keys.extend([RowKey::Payment(*payment), RowKey::Kept(*payment)]);
            }
            Command::Send { sku, .. } => drop(needs.keys.insert(RowKey::Units(*sku))),
            Command::Receive(transfer) => drop(needs.keys.insert(RowKey::Units(transfer.sku))),
            Command::Persist { entries, .. } => {
                for entry in entries {
                    match &entry.event {
                        Event::Order { user, change: OrderChange::Placed(placed), .. } => {
                            add_order(state, *user, placed.sku, placed.subjects, &mut needs);
                        }
                        Event::Adjusted { id, sku, .. } => {
                            needs.keys.insert(RowKey::Units(*sku));
                            needs.keys.insert(RowKey::Adjustment(id.clone()));
                        }
                        _ => {}
                    }
                }
            }
            Command::Load { chunk, .. } => {
                // The first part is loaded into a lane without content.
                let state = state.filter(|_| chunk.after.is_some());
                for order in state.iter().flat_map(|state| state.own_orders(chunk)) {
                    add_order(state, order.key.user, order.sku, order.subjects, &mut needs);
                    let payments = order.payments.iter();
                    needs.keys.extend(payments.map(|payment| RowKey::Payment(payment.id)));
                }
            }
            Command::Reopen { .. } => {
                let offers = state.iter().flat_map(|state| state.terms.offers());
                needs.keys.extend(offers.map(|offer| RowKey::Units(offer.sku())));
            }
            Command::Follow { entries, .. } => {
                if let Some(state) = state.filter(|state| state.loading.is_none()) {
                    let new = |entry: &&Entry| entry.position.sequence > state.followed.sequence;
                    let new = entries.iter().filter(new);
                    new.for_each(|entry| state.add_followed(&entry.event, &mut needs));
                    state.add_orders(&mut needs);
                }
            }
            Command::Ack { position, .. } => needs.entry = Some(position.sequence),
            Command::Forget(_)
            | Command::Archive(_)
            | Command::Register(_)
            | Command::Retire(_)
            | Command::Close { .. }
            | Command::NextEpoch { .. } => {}
        }
        needs
    }
}

impl LaneState {
    /// What the known orders count in: their steps may move it.
    fn add_orders(&self, needs: &mut Needs) {
        for (_, row) in self.orders.iter() {
            let sku = self.terms.offers()[row.offer as usize].sku();
            needs.keys.insert(RowKey::Units(sku));
            needs.keys.extend(self.counter_keys(sku, row.subjects()));
        }
    }

    /// What an entry of the truth touches in this lane of a gate.
    fn add_followed(&self, event: &Event, needs: &mut Needs) {
        match event {
            Event::Order { user, change, .. } => {
                if Lane::of(self.lane.activity, *user, self.base.buckets()) != self.lane {
                    return;
                }
                needs.buyers.insert(*user);
                match change {
                    OrderChange::Placed(placed)
                    | OrderChange::PlacedFree(placed)
                    | OrderChange::Refused(placed)
                    | OrderChange::Retaken { placed, .. } => {
                        add_order(Some(self), *user, placed.sku, placed.subjects, needs);
                    }
                    OrderChange::PaymentOpened { payment, .. } => {
                        needs.keys.insert(RowKey::Payment(*payment));
                    }
                    _ => {}
                }
            }
            Event::Amended { change, .. } => needs.all_buyers |= is_new(self, change),
            Event::Adjusted { id, sku, .. } | Event::AdjustmentRefused { id, sku } => {
                needs.keys.insert(RowKey::Units(*sku));
                needs.keys.insert(RowKey::Adjustment(id.clone()));
                // A gate may have taken another one under this id.
                let taken = self.adjustments.get(id);
                needs.keys.extend(taken.map(|(sku, _)| RowKey::Units(*sku)));
            }
            Event::TimeStepped { .. } => needs.all_buyers = true,
            Event::Opened(_)
            | Event::Reopened
            | Event::EpochTaken
            | Event::Sent(_)
            | Event::Received(_)
            | Event::Forgotten(_) => {}
        }
    }
}

fn add_order(
    state: Option<&LaneState>,
    user: UserId,
    sku: crate::domain::SkuId,
    subjects: Subjects,
    needs: &mut Needs,
) {
    needs.buyers.insert(user);
    needs.keys.insert(RowKey::Units(sku));
    if let Some(state) = state {
        needs.keys.extend(state.counter_keys(sku, subjects));
    }
}

/// Whether a change limits devices or addresses in a way that nobody has counted yet: then all orders
/// are counted.
fn is_new(state: &LaneState, change: &Change) -> bool {
    let Change::Limits { limits, .. } = change else { return false };
    let of_others = limits.iter().filter(|rule| rule.subject != Subject::User);
    of_others.into_iter().any(|rule| !state.counters.counted().any(|known| known == (rule.subject, rule.per)))
}
