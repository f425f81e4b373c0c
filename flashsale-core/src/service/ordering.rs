//! Taking orders, reading them, giving them up.

use std::sync::Arc;

use super::{LaneFront, Payments, Sale, Sales, ServiceError, advance::advance, sales::borrow_units};
use crate::{
    domain::{
        ActivityId, Attribution, Idempotency, Order, OrderId, OrderKey, OrderStatus, Quantity, SkuId,
        Subjects, UserId,
    },
    ledger::{Advance, Advanced, LedgerError, Outcome, Position, Reference, Reserve, ReserveMode},
    snowflake::Generator,
};

/// A request for units, by somebody whose ticket was verified.
#[derive(Clone, Copy, Debug)]
pub struct OrderRequest {
    /// Who asks.
    pub user: UserId,
    /// In which activity.
    pub activity: ActivityId,
    /// For which offer.
    pub sku: SkuId,
    /// For how many.
    pub quantity: Quantity,
    /// The caller's key and the ticket's nonce.
    pub idempotency: Idempotency,
    /// Device and address, for limits that count them.
    pub subjects: Subjects,
    /// The ticket is authentic and expired: only an order made before is answered.
    pub ticket_expired: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A new order. It is queued if it is not persisted, and the position is part of its receipt.
    Placed(Box<Order>, Position),
    /// The order that the key made before, as it stands now.
    Existing(Box<Order>),
    /// No order; never [`Outcome::Reserved`] or [`Outcome::Replayed`].
    Declined(Outcome),
}

/// Takes, reads and gives up orders.
#[derive(Clone, Debug)]
pub struct OrderService {
    sales: Arc<Sales>,
    ids: Arc<Generator>,
}

/// A request that the local view did not decline.
#[derive(Debug)]
#[must_use = "nothing is ordered until it is placed"]
pub struct Attempt<'a> {
    service: &'a OrderService,
    sale: Arc<Sale>,
    request: OrderRequest,
}

/// How often a request that found its lane empty is decided again after units were borrowed.
const BORROWINGS: usize = 3;

impl OrderService {
    /// A service over these sales.
    pub fn new(sales: Arc<Sales>, ids: Arc<Generator>) -> Self {
        Self { sales, ids }
    }

    /// The sales underneath.
    pub fn sales(&self) -> &Arc<Sales> {
        &self.sales
    }

    /// Looks at a request without I/O and without waiting. What the local view declines ends here; anything else is an
    /// attempt that goes to the ledger.
    ///
    /// # Errors
    /// The outcome, if no order can be made and this buyer certainly has none that could be repeated.
    pub fn attempt(&self, request: &OrderRequest) -> Result<Attempt<'_>, Outcome> {
        let sale = self.sales.sale(request.activity).ok_or(Outcome::NotReady)?;
        match sale.shortcut(self.sales.clock().now(), request.user, request.sku) {
            // Whoever is declined here made no order, and an expired ticket makes none any more.
            Some(_) if request.ticket_expired => Err(Outcome::TicketExpired),
            Some(outcome) => Err(outcome),
            None => Ok(Attempt { service: self, sale, request: *request }),
        }
    }

    /// Places an order. The future may be dropped: the request is then decided all the same, or not at all.
    ///
    /// # Errors
    /// [`ServiceError`]; after an indefinite one the same key tells what became of the request.
    pub async fn place(&self, request: &OrderRequest) -> Result<Placement, ServiceError> {
        match self.attempt(request) {
            Ok(attempt) => attempt.place().await,
            Err(outcome) => Ok(Placement::Declined(outcome)),
        }
    }

    /// An order of this user.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn order(&self, user: UserId, id: OrderId) -> Result<Option<Order>, ServiceError> {
        match self.owned(user, id).await? {
            Some(key) => Ok(self.sales.ledger().order(key).await?),
            None => Ok(None),
        }
    }

    /// The orders of a user, highest id first, below `after`.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, ServiceError> {
        Ok(self.sales.ledger().orders_of(user, after, limit).await?)
    }

    /// Gives an order up. An open payment is closed at its provider first.
    ///
    /// # Errors
    /// [`ServiceError`]; repeat it to learn what became of it.
    pub async fn cancel(
        &self,
        user: UserId,
        id: OrderId,
        payments: &Payments,
    ) -> Result<Advanced, ServiceError> {
        match self.owned(user, id).await? {
            Some(order) => cancel(&self.sales, payments, order, None).await,
            None => Ok(Advanced::NotFound),
        }
    }

    async fn owned(&self, user: UserId, id: OrderId) -> Result<Option<OrderKey>, ServiceError> {
        let key = self.sales.ledger().locate(Reference::Order(id)).await?;
        Ok(key.filter(|key| key.user == user))
    }
}

impl Attempt<'_> {
    /// Has the ledger decide; while the buyer's lane is sold out, units are borrowed from others. The future may be
    /// dropped: the request is then decided all the same, or not at all.
    ///
    /// # Errors
    /// [`ServiceError`]; after an indefinite one the same key tells what became of the request.
    pub async fn place(self) -> Result<Placement, ServiceError> {
        let front = self.sale.front(self.request.user);
        let mut borrowings = front.borrowings();
        let mut outcome = self.reserve(front).await?;
        for _ in 0..BORROWINGS {
            let Outcome::SoldOut { available } = outcome else { break };
            let wanted = self.request.quantity.value().saturating_sub(available);
            let borrowed = self.borrow_units(borrowings, wanted).await?;
            if borrowed == Some(0) {
                break;
            }
            borrowings = front.borrowings();
            outcome = self.reserve(front).await?;
            if borrowed.is_some_and(|borrowed| borrowed < wanted) {
                break;
            }
        }
        Ok(match outcome {
            Outcome::Reserved { order, position } => Placement::Placed(order, position),
            Outcome::Replayed(order) => Placement::Existing(order),
            declined => Placement::Declined(declined),
        })
    }

    /// Borrows units for the lane of the request, in a task of its own: a caller that goes away leaves none on their way.
    async fn borrow_units(&self, seen: u64, wanted: u32) -> Result<Option<u32>, ServiceError> {
        let sales = &self.service.sales;
        let (ledger, sale) = (Arc::clone(sales.ledger()), Arc::clone(&self.sale));
        let OrderRequest { user, sku, .. } = self.request;
        let borrow = async move { borrow_units(&ledger, &sale, sale.front(user), seen, sku, wanted).await };
        let lost = || LedgerError::Unavailable("the task that borrowed units has ended early".into());
        Ok(sales.background().spawn(borrow).await.map_err(|_| lost())??)
    }

    async fn reserve(&self, front: &LaneFront) -> Result<Outcome, ServiceError> {
        let OrderRequest { user, sku, quantity, idempotency, subjects, ticket_expired, .. } = self.request;
        let mode = if ticket_expired { ReserveMode::TicketExpired } else { ReserveMode::NewOrder };
        let order = self.service.ids.next()?.into();
        let reserve = Reserve { order, user, sku, quantity, idempotency, subjects, mode };
        let (_, outcome) = front.batcher.reserve(reserve).await?;
        Ok(outcome)
    }
}

/// Gives an order up for its buyer, or for an operator. An open payment is closed at its provider first.
pub(super) async fn cancel(
    sales: &Sales,
    payments: &Payments,
    order: OrderKey,
    by: Option<Attribution>,
) -> Result<Advanced, ServiceError> {
    let outcome = advance(sales, Advance::Cancel { order, by: by.clone() }).await?;
    if outcome != Advanced::WrongState(OrderStatus::Paying) {
        return Ok(outcome);
    }
    payments.close(order).await?;
    advance(sales, Advance::Cancel { order, by }).await
}
