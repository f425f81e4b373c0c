//! What buyers were told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flashsale_core::domain::{OrderId, OrderStatus, UserId};
use tokio::sync::watch;

use super::{Ending, Offer, OrderView};

/// What all buyers of a test were told. Clones share the notes.
#[derive(Clone, Debug)]
pub struct ClientLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pages: Mutex<Pages>,
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    purchases: Vec<Purchase>,
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// One intent to buy: a ticket and a key. It is noted before the order is sent, because no answer may come.
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
    /// Units asked for.
    pub quantity: u32,
    /// What the buyer means to do with an order.
    pub ending: Ending,
    /// The order that the server acknowledged.
    pub placed: Option<Placed>,
    /// Whether a request for it got no answer: there may be an order that nobody was told of.
    pub unanswered: bool,
    /// Whether that was because the buyer hung up.
    pub hung_up: bool,
}

impl Purchase {
    /// An intent of which nothing is known yet.
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

/// An order that the server acknowledged, as it was told last.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The order.
    pub order: OrderId,
    /// The last status that the server told.
    pub status: OrderStatus,
    /// The payment that was opened last.
    pub payment: Option<String>,
    /// Transactions whose capture the server answered with 200: it keeps the money, so it has to account for it.
    pub captured: Vec<String>,
}

impl ClientLog {
    /// Empty notes.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { pages: Mutex::default(), acknowledged: watch::Sender::new(0) }) }
    }

    /// Notes an intent, and returns its number.
    pub fn intent(&self, purchase: Purchase) -> usize {
        let mut pages = self.pages();
        pages.purchases.push(purchase);
        pages.purchases.len() - 1
    }

    /// Notes that a request for this purchase got no answer.
    pub fn unanswered(&self, purchase: usize) {
        self.pages().purchases[purchase].unanswered = true;
    }

    /// Notes that the server has declined this purchase for good: there is no order that nobody was told of.
    pub fn declined(&self, purchase: usize) {
        self.pages().purchases[purchase].unanswered = false;
    }

    /// Notes that the buyer hung up on a request for this purchase.
    pub fn hung_up(&self, purchase: usize) {
        let purchase = &mut self.pages().purchases[purchase];
        (purchase.unanswered, purchase.hung_up) = (true, true);
    }

    /// Notes what an answer told of this purchase's order. An answer about another order than before, or with another
    /// content than was asked for, is a violation.
    pub fn told(&self, purchase: usize, view: &OrderView) {
        let mut pages = self.pages();
        let noted = &mut pages.purchases[purchase];
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
        pages.violations.extend(violations);
        drop(pages);
        if first {
            self.count(&format!("told {:?}", view.status).to_lowercase());
            self.shared.acknowledged.send_modify(|acknowledged| *acknowledged += 1);
        }
    }

    /// Changes what is noted of an acknowledged order.
    ///
    /// # Panics
    /// When no order was acknowledged for this purchase.
    pub fn placed(&self, purchase: usize, change: impl FnOnce(&mut Placed)) {
        change(self.pages().purchases[purchase].placed.as_mut().expect("an acknowledged order"));
    }

    /// Counts something that happened.
    pub fn count(&self, what: &str) {
        let mut pages = self.pages();
        match pages.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                pages.counts.insert(what.to_owned(), 1);
            }
        }
    }

    /// Notes something that must not be.
    pub fn violation(&self, what: String) {
        self.pages().violations.push(what);
    }

    /// Waits until `orders` orders have been acknowledged.
    ///
    /// # Panics
    /// Never: the sender lives as long as these notes.
    pub async fn acknowledged(&self, orders: u64) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        acknowledged.wait_for(|count| *count >= orders).await.expect("the sender is part of the notes");
    }

    /// How many orders have been acknowledged so far.
    pub fn acknowledged_so_far(&self) -> u64 {
        *self.shared.acknowledged.borrow()
    }

    /// Everything that was meant and told so far.
    pub fn purchases(&self) -> Vec<Purchase> {
        self.pages().purchases.clone()
    }

    /// How often what happened.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.pages().counts.clone()
    }

    /// How often this happened.
    pub fn counted(&self, what: &str) -> u64 {
        self.pages().counts.get(what).copied().unwrap_or(0)
    }

    /// What must not be.
    pub fn violations(&self) -> Vec<String> {
        self.pages().violations.clone()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClientLog {
    fn default() -> Self {
        Self::new()
    }
}
