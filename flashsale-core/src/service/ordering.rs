//! Placing, reading and cancelling orders.

use std::sync::Arc;

use super::{LaneFront, Payments, Sale, Sales, ServiceError, advance::advance, sales::borrow_units};
use crate::{
    domain::{
        ActivityId, Attribution, Idempotency, Invalid, Order, OrderId, OrderKey, OrderStatus, Quantity,
        SkuId, Subjects, UserId,
    },
    ledger::{Advance, Advanced, LedgerCalls as _, LedgerError, Outcome, Position, Reserve, ReserveMode},
    snowflake::Generator,
};

/// A request for units. The caller has verified the user's ticket.
#[derive(Clone, Copy, Debug)]
pub struct OrderRequest {
    /// The buyer.
    pub user: UserId,
    /// The activity.
    pub activity: ActivityId,
    /// The SKU of the offer.
    pub sku: SkuId,
    /// The number of units.
    pub quantity: Quantity,
    /// The caller's idempotency key and the ticket's nonce.
    pub idempotency: Idempotency,
    /// Device and address, for limits that count them.
    pub subjects: Subjects,
    /// The ticket is authentic but has expired: only an existing order is returned, none is placed.
    pub ticket_expired: bool,
}

/// The result of an order request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A new order. It is queued if it is not persisted yet; the position is part of its receipt.
    Placed(Box<Order>, Position),
    /// The order that an earlier request with the same key placed, in its current state. The position is part
    /// of a receipt of it, too.
    Existing(Box<Order>, Position),
    /// No order. Never [`Outcome::Reserved`] or [`Outcome::Replayed`].
    Declined(Outcome),
}

/// Places, reads and cancels orders.
#[derive(Clone, Debug)]
pub struct OrderService {
    sales: Arc<Sales>,
    ids: Arc<Generator>,
}

/// A request that the local view did not decline.
#[derive(Debug)]
#[must_use = "no order is made until `place` is called"]
pub struct Attempt<'a> {
    service: &'a OrderService,
    sale: Arc<Sale>,
    request: OrderRequest,
}

/// How often a sold-out request is decided again after its lane borrowed units.
const BORROWINGS: usize = 3;

impl OrderService {
    /// Creates a service for these sales.
    pub fn new(sales: Arc<Sales>, ids: Arc<Generator>) -> Self {
        Self { sales, ids }
    }

    /// The sales that this service works on.
    pub fn sales(&self) -> &Arc<Sales> {
        &self.sales
    }

    /// Checks a request against the local view. If it passes, the ledger has to decide. Asks the ledger
    /// only about an activity that this process does not sell: an archived one has orders to replay.
    ///
    /// # Errors
    /// The outcome, if the request is certain to fail and this buyer has no order to replay;
    /// [`ServiceError`].
    pub async fn attempt(
        &self,
        request: &OrderRequest,
    ) -> Result<Result<Attempt<'_>, Outcome>, ServiceError> {
        match self.check(request) {
            Err(Outcome::NotReady) if self.sales.find(request.activity).await?.is_some() => {
                Ok(self.check(request))
            }
            attempt => Ok(attempt),
        }
    }

    fn check(&self, request: &OrderRequest) -> Result<Attempt<'_>, Outcome> {
        let sale = self.sales.sale(request.activity).ok_or(Outcome::NotReady)?;
        match sale.shortcut(self.sales.clock().now(), request.user, request.sku) {
            // Whoever is declined here has no order, and an expired ticket cannot make one.
            Some(_) if request.ticket_expired => Err(Outcome::TicketExpired),
            Some(outcome) => Err(outcome),
            None => Ok(Attempt { service: self, sale, request: *request }),
        }
    }

    /// Places an order. If the future is dropped, the order is either decided anyway or not made.
    ///
    /// # Errors
    /// [`ServiceError`]. After an indefinite error, repeating with the same key gives the outcome.
    pub async fn place(&self, request: &OrderRequest) -> Result<Placement, ServiceError> {
        match self.attempt(request).await? {
            Ok(attempt) => attempt.place().await,
            Err(outcome) => Ok(Placement::Declined(outcome)),
        }
    }

    /// Returns an order of the user in the key; orders of other users are not found.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn order(&self, key: OrderKey) -> Result<Option<Order>, ServiceError> {
        Ok(self.sales.ledger().order(key).await?)
    }

    /// Lists a user's orders by descending id, starting below `after`.
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

    /// Cancels an order, after closing any open payment at its provider.
    ///
    /// # Errors
    /// [`ServiceError`]; repeat the call to learn the outcome.
    pub async fn cancel(&self, order: OrderKey, payments: &Payments) -> Result<Advanced, ServiceError> {
        cancel(&self.sales, payments, order, None).await
    }
}

impl Attempt<'_> {
    /// Sends the request to the ledger; while the buyer's lane is sold out, borrows units from
    /// other lanes. If the future is dropped, the order is either decided anyway or not made.
    ///
    /// # Errors
    /// As [`OrderService::place`]; invalid if the order costs more than money can hold.
    pub async fn place(self) -> Result<Placement, ServiceError> {
        self.check_amount()?;
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
            Outcome::Replayed { order, position } => Placement::Existing(order, position),
            declined => Placement::Declined(declined),
        })
    }

    /// Refuses a quantity that costs more than money can hold: adjustments can add more units than
    /// the offer had when it was checked.
    fn check_amount(&self) -> Result<(), LedgerError> {
        let OrderRequest { sku, quantity, .. } = self.request;
        let Some(offer) = self.sale.terms().offer(sku) else { return Ok(()) };
        let amount = offer.price().times(quantity.value());
        amount.map(drop).map_err(|_| {
            let reason = format!("{} units cost more than 10^15 minor units: order fewer", quantity.value());
            Invalid::new("quantity", reason).into()
        })
    }

    /// Borrows units in a separate task, so a dropped caller leaves no transfer half-way.
    async fn borrow_units(&self, seen: u64, wanted: u32) -> Result<Option<u32>, ServiceError> {
        let sales = &self.service.sales;
        let (joined, sale) = (Arc::clone(sales), Arc::clone(&self.sale));
        let OrderRequest { user, sku, activity, .. } = self.request;
        let borrow = async move {
            let borrowed = borrow_units(joined.ledger(), &sale, sale.front(user), seen, sku, wanted).await;
            // After an error too: units may be in transit.
            joined.note_changes(activity);
            borrowed
        };
        let lost = || LedgerError::Unavailable("the task that borrows units ended early".into());
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

/// Cancels an order for its buyer or an operator, after closing any open payment at its provider.
pub(super) async fn cancel(
    sales: &Sales,
    payments: &Payments,
    order: OrderKey,
    by: Option<Attribution>,
) -> Result<Advanced, ServiceError> {
    if sales.ledger().order(order).await?.is_none() {
        // A step would bring an archived activity back into memory for an order that anybody made up.
        return Ok(Advanced::NotFound);
    }
    let outcome = advance(sales, Advance::Cancel { order, by: by.clone() }).await?;
    if outcome != Advanced::WrongState(OrderStatus::Paying) {
        return Ok(outcome);
    }
    payments.close(order).await?;
    advance(sales, Advance::Cancel { order, by }).await
}
