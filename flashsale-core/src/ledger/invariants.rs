//! The invariants of a ledger, shared by tests, load runs, `audit` and monitors.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::state_machine::{Inspection, LaneInspection};
use crate::domain::{
    Capture, Order, OrderStatus, PaymentStatus, Per, Proceeds, Receipt, RefundReason, Strategy, Subject,
    Subjects,
};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number, `I1` to `I12`.
    pub invariant: &'static str,
    /// The expected and the actual state.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Whether available units may be negative, which happens only at a gate that owes units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwedUnits {
    /// They must not be negative.
    Forbidden,
    /// They may be negative.
    Allowed,
}

/// Checks one ledger at one moment: I1, I2, I4, I5, I7, I8, I10, I12, and the shape of orders (I6).
pub fn check(inspection: &Inspection, owing: OwedUnits) -> Vec<Violation> {
    let mut found = Findings(Vec::new());
    check_units(inspection, owing, &mut found);
    check_limits(inspection, &mut found);
    check_identity(inspection, &mut found);
    for order in inspection.lanes.iter().flat_map(|lane| &lane.orders) {
        check_order(order, &mut found);
    }
    found.0
}

struct Findings(Vec<Violation>);

impl Findings {
    fn require(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { invariant, what: what() });
        }
    }
}

/// I1 and I2: units are conserved, and every counter is the sum of what it counts.
fn check_units(inspection: &Inspection, owing: OwedUnits, found: &mut Findings) {
    for (index, offer) in inspection.terms.offers().iter().enumerate() {
        let sku = offer.sku();
        let mut sum = 0;
        let mut total = i64::from(offer.units());
        for lane in &inspection.lanes {
            let units = lane.offers[index];
            let (held, sold, pending) = held_sold_pending(lane, index, inspection);
            let seen = (units.held, units.sold, units.pending);
            found.require(seen == (held, sold, pending), "I1", || {
                format!(
                    "SKU {sku}, bucket {}: (held, sold, pending) is {seen:?}, orders add up to {:?}",
                    lane.bucket,
                    (held, sold, pending)
                )
            });
            found.require(units.available >= 0 || owing == OwedUnits::Allowed, "I1", || {
                format!("SKU {sku}, bucket {}: {} available", lane.bucket, units.available)
            });
            let left = units.available + units.held + units.sold;
            let right = units.share + units.adjusted + units.received - units.sent;
            found.require(left == right, "I2", || {
                format!("SKU {sku}, bucket {}: available+held+sold is {left}, should be {right}", lane.bucket)
            });
            sum += left;
            total += units.adjusted;
        }
        let sent: i64 = inspection.lanes.iter().map(|lane| lane.offers[index].sent).sum();
        let received: i64 = inspection.lanes.iter().map(|lane| lane.offers[index].received).sum();
        found.require(sum + sent - received == total, "I1", || {
            format!("SKU {sku}: {sum} units and {} in transit, should be {total}", sent - received)
        });
        let kept: i64 = inspection
            .lanes
            .iter()
            .flat_map(|lane| &lane.transit)
            .filter(|transfer| transfer.sku == sku)
            .map(|transfer| i64::from(transfer.units))
            .sum();
        found.require(sent - received <= kept, "I2", || {
            format!("SKU {sku}: {} units are in transit, but recorded transfers hold {kept}", sent - received)
        });
    }
}

fn held_sold_pending(lane: &LaneInspection, index: usize, inspection: &Inspection) -> (i64, i64, i64) {
    let offer = &inspection.terms.offers()[index];
    let pay_time = offer.strategy() == Strategy::PayTime;
    let (mut held, mut sold, mut pending) = (0, 0, 0);
    for order in lane.orders.iter().filter(|order| order.sku == offer.sku()) {
        let quantity = i64::from(order.quantity.value());
        match order.status {
            OrderStatus::Pending if pay_time => pending += quantity,
            OrderStatus::Pending | OrderStatus::Paying => held += quantity,
            OrderStatus::Paid => sold += quantity - i64::from(order.units_returned),
            _ => {}
        }
    }
    (held, sold, pending)
}

/// I2: every limit counter is the sum over its orders.
fn check_limits(inspection: &Inspection, found: &mut Findings) {
    let mut used: BTreeMap<(Subject, u64, Option<crate::domain::SkuId>), u32> = BTreeMap::new();
    for order in inspection.lanes.iter().flat_map(|lane| &lane.orders) {
        if order.status.counts_for_limits() {
            for (subject, id) in subjects(order.key.user.value(), order.subjects) {
                *used.entry((subject, id, Some(order.sku))).or_default() += order.quantity.value();
                *used.entry((subject, id, None)).or_default() += order.quantity.value();
            }
        }
    }
    for counter in inspection.lanes.iter().flat_map(|lane| &lane.counters) {
        let expected = used.get(&(counter.subject, counter.id, counter.sku)).copied().unwrap_or(0);
        found.require(counter.used == expected, "I2", || {
            format!("{counter:?} should be {expected}, the sum over its orders")
        });
    }
    // Lowering a limit does not undo orders, so current limits may be exceeded here.
    for lane in &inspection.lanes {
        check_counted(lane, found);
    }
}

/// I2: every subject that a rule of the lane counts and that has units there has a counter.
fn check_counted(lane: &LaneInspection, found: &mut Findings) {
    let counting = |order: &&Order| order.status.counts_for_limits();
    for offer in lane.terms.offers() {
        for rule in offer.limits() {
            let sku = (rule.per == Per::Offer).then(|| offer.sku());
            let shown = |id: u64| {
                let mut counters = lane.counters.iter();
                counters.any(|counter| (counter.subject, counter.sku, counter.id) == (rule.subject, sku, id))
            };
            let orders = lane.orders.iter().filter(counting);
            for order in orders.filter(|order| sku.is_none_or(|sku| order.sku == sku)) {
                for (subject, id) in subjects(order.key.user.value(), order.subjects) {
                    found.require(subject != rule.subject || shown(id), "I2", || {
                        format!("{subject:?} {id} has units of order {} that no counter shows", order.key.id)
                    });
                }
            }
        }
    }
}

/// Checks I4 for a sale whose limits never changed: no subject exceeds a limit per offer.
pub fn check_limits_hold(inspection: &Inspection) -> Vec<Violation> {
    let mut found = Findings(Vec::new());
    for offer in inspection.terms.offers() {
        for rule in offer.limits().iter().filter(|rule| rule.per == Per::Offer) {
            let mut used: HashMap<u64, u32> = HashMap::new();
            let orders = inspection.lanes.iter().flat_map(|lane| &lane.orders);
            for order in orders.filter(|order| order.sku == offer.sku()) {
                if order.status.counts_for_limits() {
                    for (subject, id) in subjects(order.key.user.value(), order.subjects) {
                        if subject == rule.subject {
                            *used.entry(id).or_default() += order.quantity.value();
                        }
                    }
                }
            }
            for (id, units) in used {
                found.require(units <= rule.max(), "I4", || {
                    format!(
                        "SKU {}: {:?} {id} has {units} units, at most {} are allowed",
                        offer.sku(),
                        rule.subject,
                        rule.max()
                    )
                });
            }
        }
    }
    found.0
}

/// I5, I8, I10, I12: a key, a nonce, an id and a payment's transaction each belong to one order of a buyer.
fn check_identity(inspection: &Inspection, found: &mut Findings) {
    let mut orders = HashSet::new();
    let (mut keys, mut nonces, mut transactions) = (HashSet::new(), HashSet::new(), HashSet::new());
    for order in inspection.lanes.iter().flat_map(|lane| &lane.orders) {
        let user = order.key.user;
        let id = order.key.id;
        found.require(orders.insert((user, id)), "I12", || format!("user {user} has two orders {id}"));
        // A gate may admit what the truth refuses: the retry of an order that the gate lost. Skip what
        // is queued.
        let counts = order.persisted && order.status != OrderStatus::Refused;
        if let Some(known) = order.idempotency.filter(|_| counts) {
            found.require(keys.insert((user, known.key)), "I5", || {
                format!("order {} reuses the key of another order of user {user}", order.key.id)
            });
            found.require(nonces.insert((user, known.nonce)), "I10", || {
                format!("order {} reuses the ticket of another order of user {user}", order.key.id)
            });
        }
        for receipt in &order.receipts {
            let capture = &receipt.capture;
            let Capture { provider, payment, transaction, .. } = capture;
            let fresh = transactions.insert((provider, *payment, transaction));
            found.require(fresh, "I8", || {
                format!("transaction {transaction} of payment {payment} at {provider} is recorded twice")
            });
        }
    }
}

/// I6, I7, I8: the status of an order agrees with its payments and receipts.
fn check_order(order: &Order, found: &mut Findings) {
    let id = order.key.id;
    let open = order.payments.iter().filter(|payment| payment.status == PaymentStatus::Open).count();
    let expected = usize::from(order.status == OrderStatus::Paying);
    found.require(open == expected || (order.status == OrderStatus::Paid && open <= 1), "I6", || {
        format!("order {id} is {:?} with {open} open payments", order.status)
    });
    check_money(order, found);
    let returned = order.units_returned;
    found.require(returned <= order.quantity.value(), "I7", || {
        format!("order {id} returned {returned} units of {}", order.quantity.value())
    });
    found.require(returned == 0 || !order.refund_orders.is_empty() || is_refunded_whole(order), "I7", || {
        format!("order {id} returned its units without a refund")
    });
}

/// Journals of earlier versions have no refund orders.
fn is_refunded_whole(order: &Order) -> bool {
    let mut refunds = order.receipts.iter().flat_map(|receipt| &receipt.refunds);
    order.amount.amount() == 0 || refunds.any(|refund| refund.reason == RefundReason::Operator)
}

/// I8: all money is either what the order costs, or a part that is awaited, or goes back; and no
/// more goes back than was taken.
fn check_money(order: &Order, found: &mut Findings) {
    let id = order.key.id;
    let of = |proceeds| order.receipts.iter().filter(move |receipt| receipt.proceeds == proceeds);
    let price = order.amount.amount();
    let taken: u64 = of(Proceeds::Paid).map(|receipt| receipt.capture.amount).sum();
    let kept: u64 = of(Proceeds::Paid).map(Receipt::kept).sum();
    if order.status == OrderStatus::Paid {
        found.require(taken >= price && kept <= price, "I8", || {
            format!("order {id} costs {price}; {taken} was taken for it and {kept} is kept")
        });
    } else {
        found.require(taken == 0, "I8", || format!("order {id} is {:?} and paid", order.status));
    }
    let (parts, is_paying) = (of(Proceeds::Part).count(), order.status == OrderStatus::Paying);
    found.require(parts == 0 || is_paying, "I8", || {
        format!("order {id} is {:?} and keeps {parts} parts of its amount", order.status)
    });
    for receipt in &order.receipts {
        let Receipt { capture, proceeds, refunds, .. } = receipt;
        let (transaction, taken) = (&capture.transaction, capture.amount);
        let refunded = refunds.iter().fold(0_u64, |sum, refund| sum.saturating_add(refund.amount));
        found.require(refunded <= taken, "I8", || {
            format!("order {id}: {refunded} of {taken} goes back from transaction {transaction}")
        });
        found.require(*proceeds != Proceeds::Surplus || refunded == taken, "I8", || {
            format!("order {id}: only {refunded} of {taken} goes back from the surplus {transaction}")
        });
        let is_other_money = capture.currency != order.amount.currency();
        found.require(*proceeds == Proceeds::Surplus || !is_other_money, "I8", || {
            format!("order {id} costs {}, but {} was taken for it", order.amount, capture.currency)
        });
    }
}

fn subjects(user: u64, subjects: Subjects) -> impl Iterator<Item = (Subject, u64)> {
    let device = subjects.device.map(|id| (Subject::Device, id.0));
    let address = subjects.address.map(|id| (Subject::Address, id.0));
    [Some((Subject::User, user)), device, address].into_iter().flatten()
}
