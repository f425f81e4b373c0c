//! Steps in the life of orders, on their way to the ledger.

use super::{Sales, ServiceError};
use crate::ledger::{Advance, Advanced};

/// Takes a step in the life of an order, through the queue of its lane.
pub(super) async fn advance(sales: &Sales, step: Advance) -> Result<Advanced, ServiceError> {
    let order = step.order();
    let Some(sale) = sales.sale(order.activity) else {
        return Ok(Advanced::NotFound);
    };
    let (_, outcome) = sale.front(order.user).batcher.advance(step).await?;
    Ok(outcome)
}
