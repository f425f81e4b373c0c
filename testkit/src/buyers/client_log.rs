//! The log of what buyers were told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flashsale_core::domain::{OrderRef, OrderStatus, UserId};
use tokio::sync::watch;

use super::{Ending, Offer, OrderView};

/// The log of all buyers of a test. Clones share the log.
#[derive(Clone, Debug)]
pub struct ClientLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    records: Mutex<Records>,
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Records {
    purchases: Vec<Purchase>,
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// One intent to buy, with its ticket and key. Logged before it is sent, as no answer may come.
#[derive(Clone, Debug)]
pub struct Purchase {
    /// The offer.
    pub offer: Offer,
    /// The buyer.
    pub user: UserId,
    /// The ticket.
    pub ticket: String,
    /// The idempotency key, if one was sent.
    pub key: Option<String>,
    /// The number of units.
    pub quantity: u32,
    /// What the buyer will do with the order.
    pub ending: Ending,
    /// The order that the server acknowledged.
    pub placed: Option<Placed>,
    /// Whether a request got no answer, so that an order may exist that the buyer does not know.
    pub unanswered: bool,
    /// Whether that is because the buyer hung up.
    pub hung_up: bool,
}

impl Purchase {
    /// Creates a purchase without a key, which has not been sent yet.
    pub fn new(offer: Offer, user: UserId, ticket: String, quantity: u32) -> Self {
        Self {
            offer,
            user,
            ticket,
            key: None,
            quantity,
            ending: Ending::Leave,
            placed: None,
            unanswered: false,
            hung_up: false,
        }
    }
}

/// An order that the server acknowledged, in its last known state.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The order.
    pub order: OrderRef,
    /// The last status that the server reported.
    pub status: OrderStatus,
    /// The latest payment.
    pub payment: Option<String>,
    /// Transactions whose capture the server answered with 200, so it has the money.
    pub captured: Vec<String>,
}

impl ClientLog {
    /// Creates an empty log.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { records: Mutex::default(), acknowledged: watch::Sender::new(0) }) }
    }

    /// Logs an intent to buy and returns its number.
    pub fn intent(&self, purchase: Purchase) -> usize {
        let mut records = self.records();
        records.purchases.push(purchase);
        records.purchases.len() - 1
    }

    /// Logs that a request for this purchase got no answer.
    pub fn unanswered(&self, purchase: usize) {
        self.records().purchases[purchase].unanswered = true;
    }

    /// Logs that this purchase was finally declined, so no unknown order exists.
    pub fn declined(&self, purchase: usize) {
        self.records().purchases[purchase].unanswered = false;
    }

    /// Logs that the buyer hung up on a request for this purchase.
    pub fn hung_up(&self, purchase: usize) {
        let purchase = &mut self.records().purchases[purchase];
        (purchase.unanswered, purchase.hung_up) = (true, true);
    }

    /// Logs an order returned for this purchase. A different order than before, or one that does
    /// not match the request, is a violation.
    pub fn told(&self, purchase: usize, view: &OrderView) {
        let mut records = self.records();
        let noted = &mut records.purchases[purchase];
        let mut violations = Vec::new();
        if (view.activity_id, view.sku_id, view.quantity)
            != (noted.offer.activity, noted.offer.sku, noted.quantity)
        {
            violations
                .push(format!("order {} is not what {} asked for: {view:?}", view.order_id, noted.user));
        }
        let first = noted.placed.is_none();
        let placed = noted.placed.get_or_insert_with(|| Placed {
            order: view.order_id,
            status: view.status,
            payment: None,
            captured: Vec::new(),
        });
        if placed.order != view.order_id {
            violations.push(format!(
                "{} got order {} and then order {} for one key and ticket",
                noted.user, placed.order, view.order_id
            ));
        }
        placed.status = view.status;
        records.violations.extend(violations);
        drop(records);
        if first {
            self.count(&format!("told {:?}", view.status).to_lowercase());
            self.shared.acknowledged.send_modify(|acknowledged| *acknowledged += 1);
        }
    }

    /// Changes the log entry of an acknowledged order.
    ///
    /// # Panics
    /// If no order was acknowledged for this purchase.
    pub fn placed(&self, purchase: usize, change: impl FnOnce(&mut Placed)) {
        change(self.records().purchases[purchase].placed.as_mut().expect("an acknowledged order"));
    }

    /// Counts an event.
    pub fn count(&self, what: &str) {
        let mut records = self.records();
        match records.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                records.counts.insert(what.to_owned(), 1);
            }
        }
    }

    /// Logs a violation.
    pub fn violation(&self, what: String) {
        self.records().violations.push(what);
    }

    /// Waits until `orders` orders have been acknowledged.
    ///
    /// # Panics
    /// Never: the sender lives as long as the log.
    pub async fn acknowledged(&self, orders: u64) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        acknowledged.wait_for(|count| *count >= orders).await.expect("the sender is part of the log");
    }

    /// The number of orders acknowledged so far.
    pub fn acknowledged_so_far(&self) -> u64 {
        *self.shared.acknowledged.borrow()
    }

    /// All purchases so far, in order.
    pub fn purchases(&self) -> Vec<Purchase> {
        self.records().purchases.clone()
    }

    /// How often each event was counted.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.records().counts.clone()
    }

    /// How often this event was counted.
    pub fn counted(&self, what: &str) -> u64 {
        self.records().counts.get(what).copied().unwrap_or(0)
    }

    /// All violations so far.
    pub fn violations(&self) -> Vec<String> {
        self.records().violations.clone()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClientLog {
    fn default() -> Self {
        Self::new()
    }
}
