//! Taking orders, reading them, giving them up.

use std::{sync::Arc, time::Duration};

use super::{Payments, Sale, Sales, sales::borrow_units};
use crate::{
    domain::{
        ActivityId, Attribution, Idempotency, Order, OrderId, OrderKey, OrderStatus, Quantity, SkuId,
        Subjects, UserId,
    },
    ledger::{Advance, Advanced, LedgerError, Outcome, Position, Reference, Reserve},
    service::BatcherError,
    snowflake::{Generator, IdError},
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

/// Why a service did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The queue is full; nothing was done.
    #[error("too many requests wait already")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The ledger did not answer. If it is indefinite, the request is repeated with the same key.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no id for an order at this moment.
    #[error("no id can be made: {0}")]
    Id(#[from] IdError),
    /// The payment provider did not do what it was asked, or did not answer.
    #[error("the payment provider did not do what it was asked: {0}")]
    Provider(String),
    /// The payment provider failed too often and is left alone for a while; it was not asked.
    #[error("the payment provider is not available now")]
    ProviderUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

impl From<BatcherError> for ServiceError {
    fn from(error: BatcherError) -> Self {
        match error {
            BatcherError::Busy { retry_after } => Self::Busy { retry_after },
            BatcherError::Ledger(error) => Self::Ledger(error),
        }
    }
}

/// Takes, reads and gives up orders.
#[derive(Clone, Debug)]
pub struct OrderService {
    sales: Arc<Sales>,
    ids: Arc<Generator>,
}

/// How often a request that found its lane empty is decided again after units were collected.
const COLLECTIONS: usize = 3;

impl OrderService {
    /// A service over these sales.
    pub fn new(sales: Arc<Sales>, ids: Arc<Generator>) -> Self {
        Self { sales, ids }
    }

    /// The sales underneath.
    pub fn sales(&self) -> &Arc<Sales> {
        &self.sales
    }

    /// What can be answered without I/O and without waiting: that the activity or the offer takes no orders.
    pub fn shortcut(&self, user: UserId, activity: ActivityId, sku: SkuId) -> Option<Outcome> {
        let sale = self.sales.sale(activity)?;
        sale.shortcut(self.sales.clock().now(), user, sku)
    }

    /// Places an order. The future may be dropped: the request is then decided all the same, or not at all.
    ///
    /// # Errors
    /// [`ServiceError`]; after an indefinite one the same key tells what became of the request.
    pub async fn place(&self, request: &OrderRequest) -> Result<Placement, ServiceError> {
        match self.shortcut(request.user, request.activity, request.sku) {
            // Whoever is declined here made no order, and an expired ticket makes none any more.
            Some(_) if request.ticket_expired => Ok(Placement::Declined(Outcome::TicketExpired)),
            Some(outcome) => Ok(Placement::Declined(outcome)),
            None => self.decide(request).await,
        }
    }

    /// As [`OrderService::place`], for callers to whom [`OrderService::shortcut`] has just answered `None`.
    ///
    /// # Errors
    /// Those of [`OrderService::place`].
    pub async fn decide(&self, request: &OrderRequest) -> Result<Placement, ServiceError> {
        let Some(sale) = self.sales.sale(request.activity) else {
            return Ok(Placement::Declined(Outcome::NotReady));
        };
        let front = sale.front(request.user);
        let mut seen = front.collections();
        let mut outcome = self.reserve(&sale, request).await?;
        for _ in 0..COLLECTIONS {
            let Outcome::SoldOut { available } = outcome else { break };
            let wanted = request.quantity.value().saturating_sub(available);
            let collected = self.borrow_units(&sale, seen, request, wanted).await?;
            if collected == Some(0) {
                break;
            }
            seen = front.collections();
            outcome = self.reserve(&sale, request).await?;
            if collected.is_some_and(|collected| collected < wanted) {
                break;
            }
        }
        Ok(match outcome {
            Outcome::Reserved { order, position } => Placement::Placed(order, position),
            Outcome::Replayed(order) => Placement::Existing(order),
            declined => Placement::Declined(declined),
        })
    }

    /// Collects units for the lane of a request, in a task of its own: a caller that goes away leaves none on their way.
    async fn borrow_units(
        &self,
        sale: &Arc<Sale>,
        seen: u64,
        request: &OrderRequest,
        wanted: u32,
    ) -> Result<Option<u32>, ServiceError> {
        let (ledger, sale) = (Arc::clone(self.sales.ledger()), Arc::clone(sale));
        let OrderRequest { user, sku, .. } = *request;
        let task = self
            .sales
            .background()
            .spawn(async move { borrow_units(&ledger, &sale, sale.front(user), seen, sku, wanted).await });
        let lost = || LedgerError::Unavailable("the collection of units was broken off".into());
        Ok(task.await.map_err(|_| lost())??)
    }

    async fn reserve(&self, sale: &Sale, request: &OrderRequest) -> Result<Outcome, ServiceError> {
        let reserve = Reserve {
            order: self.ids.next()?.into(),
            user: request.user,
            sku: request.sku,
            quantity: request.quantity,
            idempotency: request.idempotency,
            subjects: request.subjects,
            replay_only: request.ticket_expired,
        };
        let (_, outcome) = sale.front(request.user).batcher.reserve(reserve).await?;
        Ok(outcome)
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

/// Takes a step in the life of an order, through the queue of its lane.
pub(super) async fn advance(sales: &Sales, step: Advance) -> Result<Advanced, ServiceError> {
    let order = step.order();
    let Some(sale) = sales.sale(order.activity) else {
        return Ok(Advanced::NotFound);
    };
    let (_, outcome) = sale.front(order.user).batcher.advance(step).await?;
    Ok(outcome)
}
