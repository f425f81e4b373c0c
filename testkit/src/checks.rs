//! Compares what buyers were told with the server's state at rest.
//!
//! Messages name the project's invariants: I1 units add up, I4 limits, I5 one order per key, I6
//! statuses only move forward, I7 each hold ends once, I8 money is accounted for, I9 nothing
//! acknowledged is missing, I10 one order per ticket, I12 ids are unique.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use flashsale_core::domain::{ActivityId, OrderRef, OrderStatus, SkuId, Strategy, UserId};
use hyper::Method;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::{
    buyers::{Buyer, ClientLog, Offer, OrderView, Purchase, Shop},
    client::Client,
};

/// The stock of an offer as shown to operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct StockView {
    /// Units on sale at the start.
    pub units: u64,
    /// The sum of all adjustments, in units.
    pub adjusted: i64,
    /// Units that can be taken.
    pub available: u64,
    /// Units that belong to unpaid orders.
    pub held: u64,
    /// Units that belong to paid orders.
    pub sold: u64,
}

impl StockView {
    /// Whether all units are accounted for.
    pub fn adds_up(&self) -> bool {
        let have = self.available.checked_add(self.held).and_then(|units| units.checked_add(self.sold));
        have.is_some() && self.units.checked_add_signed(self.adjusted) == have
    }
}

/// The server's view of a test's offers and orders.
#[derive(Clone, Debug)]
pub struct Census {
    /// The stock of each offer.
    pub stock: BTreeMap<(ActivityId, SkuId), StockView>,
    /// All orders of every user in the log.
    pub orders: Vec<OrderView>,
}

/// Reads the stock of an offer.
///
/// # Panics
/// If the operations listener does not return it.
pub async fn stock(shop: &Shop, client: &mut Client, offer: &Offer) -> StockView {
    let authorization = format!("Bearer {}", shop.operator_token);
    let path = format!("{}/stock", offer.path());
    let answer = client.request(Method::GET, &path, &[("authorization", &authorization)], None).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    // With a gate, the outer numbers are those of the truth.
    serde_json::from_value(answer.body.clone()).unwrap_or_else(|error| panic!("{path} ({error}): {answer}"))
}

impl Census {
    /// Reads stock and all orders, and repeats that until nothing changes in between.
    ///
    /// # Panics
    /// If the server does not answer, or something still changes after fifty tries.
    pub async fn take(shop: &Shop, log: &ClientLog, offers: &[Offer]) -> Self {
        for _ in 0..50 {
            let before = stocks(shop, offers).await;
            let orders = all_orders(shop, log).await;
            if before == stocks(shop, offers).await {
                return Self { stock: before, orders };
            }
        }
        panic!("the stock changed during each of 50 censuses: something is still selling");
    }

    /// Takes a census once nothing changes any more: no held order is open, every refund is done.
    ///
    /// # Panics
    /// If that takes longer than `deadline` (invariants L3 and L6).
    pub async fn take_at_rest(shop: &Shop, log: &ClientLog, offers: &[Offer], deadline: Duration) -> Self {
        let end = Instant::now() + deadline;
        loop {
            let census = Self::take(shop, log, offers).await;
            let unsettled = census.unsettled(offers);
            if unsettled.is_empty() {
                return census;
            }
            assert!(
                Instant::now() < end,
                "L3, L6: {} orders are open past every deadline or have a refund due, such as {:?}",
                unsettled.len(),
                unsettled[0]
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Orders that will still change with time.
    fn unsettled(&self, offers: &[Offer]) -> Vec<&OrderView> {
        let has_hold = |order: &OrderView| {
            let mut offers = offers.iter().filter(|offer| offer.hold_seconds.is_some());
            offers.any(|offer| (offer.activity, offer.sku) == (order.activity_id, order.sku_id))
        };
        let is_due = |order: &OrderView| order.refund.as_ref().is_some_and(|refund| refund.status != "done");
        self.orders
            .iter()
            .filter(|order| (order.status.is_open() && has_hold(order)) || is_due(order))
            .collect()
    }

    /// Compares the census with what buyers were told, and returns all violations.
    pub fn check(&self, offers: &[Offer], log: &ClientLog) -> Findings {
        let mut findings = Findings { violations: log.violations() };
        let purchases = log.purchases();
        self.check_units(offers, &mut findings);
        self.check_limits(offers, &mut findings);
        self.check_acknowledged(&purchases, &mut findings);
        self.check_orders(&purchases, &mut findings);
        check_keys_and_tickets(&purchases, &mut findings);
        findings
    }

    /// I1 and I7.
    fn check_units(&self, offers: &[Offer], findings: &mut Findings) {
        for offer in offers {
            let Some(stock) = self.stock.get(&(offer.activity, offer.sku)) else {
                findings.add(format!("I1: offer {offer:?} has no stock"));
                continue;
            };
            let units = |counts: &dyn Fn(OrderStatus) -> bool| -> u64 {
                self.orders_of(offer)
                    .filter(|order| counts(order.status))
                    .map(|order| u64::from(order.quantity))
                    .sum()
            };
            let sold = units(&|status| status == OrderStatus::Paid);
            let held = match offer.strategy {
                Strategy::PayTime => units(&|status| status == OrderStatus::Paying),
                Strategy::OrderTime | Strategy::PreDeduct => units(&OrderStatus::is_open),
            };
            if !stock.adds_up() {
                findings.add(format!("I1: units of SKU {} do not add up: {stock:?}", offer.sku));
            }
            if stock.units != offer.units {
                findings
                    .add(format!("I1: SKU {} was opened with {} units: {stock:?}", offer.sku, offer.units));
            }
            if (stock.sold, stock.held) != (sold, held) {
                findings.add(format!(
                    "I1: orders of SKU {} own {sold} sold and {held} held units, and its stock is {stock:?}",
                    offer.sku
                ));
            }
        }
    }

    /// I4: units per user and offer in open and paid orders.
    fn check_limits(&self, offers: &[Offer], findings: &mut Findings) {
        for offer in offers {
            let mut taken: BTreeMap<UserId, u32> = BTreeMap::new();
            for order in self.orders_of(offer) {
                if let Some(user) = order.user
                    && (order.status.is_open() || order.status == OrderStatus::Paid)
                {
                    *taken.entry(user).or_default() += order.quantity;
                }
            }
            for (user, taken) in taken {
                if taken > offer.per_user {
                    findings.add(format!(
                        "I4: user {user} has {taken} units of SKU {}, limit {}",
                        offer.sku, offer.per_user
                    ));
                }
            }
        }
    }

    /// I9, I6, I8: acknowledged orders exist, their statuses only moved forward, and captured money
    /// bought something or is refunded.
    fn check_acknowledged(&self, purchases: &[Purchase], findings: &mut Findings) {
        let orders: HashMap<OrderRef, &OrderView> =
            self.orders.iter().map(|order| (order.order_id, order)).collect();
        let replaced: BTreeSet<OrderRef> = self.orders.iter().filter_map(|order| order.replaces).collect();
        for purchase in purchases {
            let Some(placed) = &purchase.placed else { continue };
            let Some(order) = orders.get(&placed.order) else {
                findings.add(format!(
                    "I9: order {} was acknowledged as {:?} but is missing",
                    placed.order, placed.status
                ));
                continue;
            };
            if order.user != Some(purchase.user) || order.quantity != purchase.quantity {
                findings.add(format!(
                    "I9: order {} was acknowledged to {purchase:?} but is {order:?}",
                    placed.order
                ));
            }
            if !reachable(placed.status, order.status) {
                findings.add(format!(
                    "I6: order {} was acknowledged as {:?} but is {:?}",
                    placed.order, placed.status, order.status
                ));
            }
            if !placed.captured.is_empty()
                && order.status != OrderStatus::Paid
                && order.refund.is_none()
                && !replaced.contains(&placed.order)
            {
                findings.add(format!(
                    "I8: money was captured for order {order:?}, which is neither paid nor refunded"
                ));
            }
        }
    }

    /// I12 and I5: ids are unique, and each order has its own answered or unanswered request.
    fn check_orders(&self, purchases: &[Purchase], findings: &mut Findings) {
        let told: BTreeSet<OrderRef> = purchases
            .iter()
            .filter_map(|purchase| purchase.placed.as_ref())
            .map(|placed| placed.order)
            .collect();
        let mut untold: BTreeMap<(UserId, SkuId, u32), usize> = BTreeMap::new();
        for purchase in purchases.iter().filter(|purchase| purchase.placed.is_none() && purchase.unanswered) {
            *untold.entry((purchase.user, purchase.offer.sku, purchase.quantity)).or_default() += 1;
        }
        let mut seen = BTreeSet::new();
        for order in &self.orders {
            if !seen.insert(order.order_id) {
                findings.add(format!("I12: order {} is listed twice", order.order_id));
            }
            if told.contains(&order.order_id) || order.replaces.is_some() {
                continue;
            }
            let intent = order.user.and_then(|user| untold.get_mut(&(user, order.sku_id, order.quantity)));
            match intent {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    findings.add(format!("I5: order {order:?} belongs to no request, or is its second order"))
                }
            }
        }
    }

    fn orders_of(&self, offer: &Offer) -> impl Iterator<Item = &OrderView> {
        let key = (offer.activity, offer.sku);
        self.orders.iter().filter(move |order| (order.activity_id, order.sku_id) == key)
    }
}

/// I5 and I10.
fn check_keys_and_tickets(purchases: &[Purchase], findings: &mut Findings) {
    let mut by_key: HashMap<(ActivityId, UserId, &str), OrderRef> = HashMap::new();
    let mut by_ticket: HashMap<&str, OrderRef> = HashMap::new();
    for purchase in purchases {
        let Some(placed) = &purchase.placed else { continue };
        if let Some(key) = &purchase.key {
            let first = *by_key.entry((purchase.offer.activity, purchase.user, key)).or_insert(placed.order);
            if first != placed.order {
                findings.add(format!(
                    "I5: key {key} of user {} made orders {first} and {}",
                    purchase.user, placed.order
                ));
            }
        }
        let first = *by_ticket.entry(&purchase.ticket).or_insert(placed.order);
        if first != placed.order {
            findings
                .add(format!("I10: one ticket of user {} made {first} and {}", purchase.user, placed.order));
        }
    }
}

/// The violations that a check found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// One line per violation.
    pub violations: Vec<String>,
}

impl Findings {
    /// Fails the test if there are any.
    ///
    /// # Panics
    /// With up to fifty violations.
    #[track_caller]
    pub fn assert_none(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }

    fn add(&mut self, violation: String) {
        self.violations.push(violation);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} violations", self.violations.len())?;
        self.violations.iter().take(50).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// Whether an order reported as `told` may later be `now`.
pub fn reachable(told: OrderStatus, now: OrderStatus) -> bool {
    told == now
        || told.may_become(now)
        // Pending and paying may alternate many times, so two steps reach whatever many steps can.
        || [OrderStatus::Pending, OrderStatus::Paying]
            .into_iter()
            .any(|between| told.may_become(between) && between.may_become(now))
}

async fn stocks(shop: &Shop, offers: &[Offer]) -> BTreeMap<(ActivityId, SkuId), StockView> {
    let mut client = Client::new(shop.operations);
    let mut stocks = BTreeMap::new();
    for offer in offers {
        stocks.insert((offer.activity, offer.sku), stock(shop, &mut client, offer).await);
    }
    stocks
}

/// Reads the orders of every user in the log, with each user's own session.
async fn all_orders(shop: &Shop, log: &ClientLog) -> Vec<OrderView> {
    let users: BTreeSet<UserId> = log.purchases().iter().map(|purchase| purchase.user).collect();
    let users: Vec<UserId> = users.into_iter().collect();
    let shop = Arc::new(shop.clone());
    let mut readers = JoinSet::new();
    for users in users.chunks(users.len().div_ceil(32).max(1)) {
        let (shop, log, users) = (shop.clone(), log.clone(), users.to_vec());
        readers.spawn(async move {
            let mut client = Client::new(shop.public);
            let mut orders = Vec::new();
            for user in users {
                let buyer = Buyer::sign_in(&shop, &log, &mut client, user).await;
                let buyer = buyer.unwrap_or_else(|interrupted| panic!("no session: {}", interrupted.0));
                let read = buyer.orders(&mut client).await;
                orders.extend(read.unwrap_or_else(|interrupted| panic!("no orders: {}", interrupted.0)));
            }
            orders
        });
    }
    readers.join_all().await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use flashsale_core::domain::OrderStatus::{Cancelled, Expired, Paid, Paying, Pending, Refused};

    use super::*;
    use crate::buyers::{Amount, RefundView};

    fn offer() -> Offer {
        Offer {
            activity: ActivityId::new(1).unwrap(),
            sku: SkuId::new(2).unwrap(),
            strategy: Strategy::OrderTime,
            units: 10,
            hold_seconds: None,
            per_user: 3,
        }
    }

    fn view(id: u64, user: u64, quantity: u32, status: OrderStatus) -> OrderView {
        OrderView {
            order_id: OrderRef { activity: offer().activity, order: id.try_into().unwrap() },
            status,
            activity_id: offer().activity,
            sku_id: offer().sku,
            quantity,
            amount: Amount { amount: 100, currency: "CNY".to_owned() },
            payment: None,
            refund: None,
            replaces: None,
            user: UserId::new(user),
        }
    }

    fn purchase(user: u64, quantity: u32, unanswered: bool) -> Purchase {
        let user = UserId::new(user).unwrap();
        let purchase = Purchase::new(offer(), user, format!("ticket of {user}"), quantity);
        Purchase { key: Some("key".to_owned()), unanswered, ..purchase }
    }

    /// User 1 paid for two units, user 2 holds one, user 3 cancelled, user 4 got no answer.
    fn world() -> (Census, ClientLog) {
        let orders = vec![
            view(11, 1, 2, Paid),
            view(12, 2, 1, Pending),
            view(13, 3, 3, Cancelled),
            view(14, 4, 1, Pending),
        ];
        let log = ClientLog::new();
        for order in &orders {
            let user = order.user.unwrap().value();
            let number = log.intent(purchase(user, order.quantity, user == 4));
            if user != 4 {
                log.told(number, order);
            }
        }
        let stock = StockView { units: 10, adjusted: 0, available: 6, held: 2, sold: 2 };
        (Census { stock: BTreeMap::from([((offer().activity, offer().sku), stock)]), orders }, log)
    }

    fn stock_of(census: &mut Census) -> &mut StockView {
        census.stock.first_entry().unwrap().into_mut()
    }

    #[test]
    fn a_world_in_order_has_no_findings() {
        let (census, log) = world();
        census.check(&[offer()], &log).assert_none();
    }

    #[test]
    fn each_fault_is_found() {
        type Fault = (&'static str, fn(&mut Census, &ClientLog));
        let faults: [Fault; 13] = [
            ("I1", |census, _| stock_of(census).available += 1),
            ("I1", |census, _| *stock_of(census) = StockView { held: 3, available: 5, ..*stock_of(census) }),
            ("I1", |census, _| census.orders[1].status = Paid),
            ("I1", |census, _| {
                *stock_of(census) = StockView { units: 11, available: 7, ..*stock_of(census) }
            }),
            ("I4", |census, _| census.orders.push(view(15, 1, 2, Paid))),
            ("I5", |census, _| census.orders.push(view(15, 4, 1, Pending))),
            ("I5", |census, log| {
                let second = view(15, 1, 2, Pending);
                log.told(log.intent(purchase(1, 2, false)), &second);
                census.orders.push(second);
            }),
            ("I6", |census, _| census.orders[0].status = Expired),
            ("I6", |census, _| census.orders[2].status = Pending),
            ("I8", |_, log| log.placed(2, |placed| placed.captured.push("t".to_owned()))),
            ("I9", |census, _| drop(census.orders.remove(0))),
            ("I10", |census, log| {
                let second = view(15, 1, 1, Cancelled);
                log.told(log.intent(Purchase { key: None, ..purchase(1, 1, false) }), &second);
                census.orders.push(second);
            }),
            ("I12", |census, _| census.orders.push(census.orders[2].clone())),
        ];
        for (number, (invariant, fault)) in faults.into_iter().enumerate() {
            let (mut census, log) = world();
            fault(&mut census, &log);
            let findings = census.check(&[offer()], &log);
            let found = findings.violations.iter().any(|line| line.starts_with(&format!("{invariant}:")));
            assert!(found, "fault {number} breaks {invariant}: {findings}");
        }
    }

    #[test]
    fn money_that_goes_back_is_accounted_for() {
        let (mut census, log) = world();
        log.placed(2, |placed| placed.captured.push("t".to_owned()));
        let amount = census.orders[2].amount.clone();
        census.orders[2].refund = Some(RefundView { status: "due".to_owned(), amount });
        census.check(&[offer()], &log).assert_none();
    }

    #[test]
    fn another_order_for_the_same_purchase_is_a_violation() {
        let (census, log) = world();
        log.told(0, &view(12, 1, 1, Paid));
        assert_eq!(census.check(&[offer()], &log).violations.len(), 2);
    }

    #[test]
    fn statuses_reach_each_other_by_any_number_of_steps() {
        let all = [Pending, Paying, Paid, Cancelled, Expired, Refused];
        for from in all {
            let mut steps = BTreeSet::from([format!("{from:?}")]);
            let mut known = vec![from];
            while let Some(status) = known.pop() {
                for next in all {
                    if status.may_become(next) && steps.insert(format!("{next:?}")) {
                        known.push(next);
                    }
                }
            }
            for to in all {
                assert_eq!(reachable(from, to), steps.contains(&format!("{to:?}")), "{from:?} to {to:?}");
            }
        }
    }
}
