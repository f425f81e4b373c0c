//! Orders, for customer support.

use std::sync::Arc;

use flashsale_core::{
    domain::{Identity, Order, OrderId, Text, UserId},
    ledger::Reference,
};
use hyper::{StatusCode, http::request::Parts};
use serde::Deserialize;

use super::{
    Operations, by, method_of,
    request::{Why, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, json, no_store},
    routes::{Answer, after, errors, limit},
    views::{Page, ShownOrder},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundRequest {
    units_returned: bool,
    reason: Text,
}

impl Operations {
    pub(super) async fn orders(&self, head: &Parts) -> Answer {
        let query = Query::parse(head.uri.query(), &["user_id", "user_number", "limit", "after"])?;
        let identity: Option<Identity> = query.parsed("user_id", "the id of a user, 1 to 255 bytes")?;
        let number: Option<UserId> = query.parsed("user_number", "the user_number of an order")?;
        let user = match (identity, number) {
            (Some(identity), None) => self.app.buyers.issuer().user(&identity),
            (None, Some(number)) => number,
            _ => return Err(Problem::invalid_field("user_id", "Name the user by user_id or user_number.")),
        };
        let (limit, after) = (limit(&query)?, after(&query)?);
        let orders = self.app.ordering.orders_of(user, after, limit + 1).await;
        let mut orders = orders.map_err(|error| errors::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let identity = self.identity(user).await?;
        let items = orders.iter().map(|order| ShownOrder::to_operator(order, identity.clone())).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn order(&self, id: OrderId) -> Answer {
        let ledger = self.app.sales.ledger();
        let failed = |error| errors::ledger(&error);
        let key =
            ledger.locate(Reference::Order(id)).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        let order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        self.shown(&order).await
    }

    /// Answers with an order and its buyer's identity.
    async fn shown(&self, order: &Order) -> Answer {
        let identity = self.identity(order.key.user).await?;
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_operator(order, identity))))
    }

    async fn identity(&self, user: UserId) -> Result<Option<Identity>, Problem> {
        self.app.buyers.identity(user).await.map_err(|error| errors::identities(&error))
    }

    pub(super) async fn cancel_order(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: OrderId,
        body: Body,
    ) -> Answer {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, "cancelled by an operator"))?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.cancel(id, &author).await };
        let order = errors::advanced(self.run(work).await?)?;
        self.shown(&order).await
    }

    pub(super) async fn refund_order(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: OrderId,
        body: Body,
    ) -> Answer {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let RefundRequest { units_returned, reason } = body.json(&head.headers).await?;
        let by = by(operator, reason)?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.refund(id, units_returned, &author).await };
        let order = errors::advanced(self.run(work).await?)?;
        self.shown(&order).await
    }
}
