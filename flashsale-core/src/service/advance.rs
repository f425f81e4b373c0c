//! Sends steps in the life of orders to the ledger.

use super::{Sales, ServiceError};
use crate::ledger::{Advance, Advanced};

/// Advances an order through the batcher of its lane.
pub(super) async fn advance(sales: &Sales, step: Advance) -> Result<Advanced, ServiceError> {
    let order = step.order();
    let Some(sale) = sales.find(order.activity).await? else {
        return Ok(Advanced::NotFound);
    };
    let (_, outcome) = sale.front(order.user).batcher.advance(step).await?;
    // The activity may have been left meanwhile, and the step may have brought it back.
    sales.find(order.activity).await?;
    Ok(outcome)
}
