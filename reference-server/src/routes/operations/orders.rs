//! Orders, for customer support.

use std::sync::Arc;

use flashsale_core::{
    domain::{OrderId, Text, UserId},
    ledger::{Advanced, Reference},
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
        let query = Query::parse(head.uri.query(), &["user_id", "limit", "after"])?;
        let user: Option<UserId> = query.parsed("user_id", "the id of a user")?;
        let user = user.ok_or_else(|| Problem::invalid_field("user_id", "Name the user."))?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let orders = self.app.ordering.orders_of(user, after, limit + 1).await;
        let mut orders = orders.map_err(|error| errors::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let items = orders.iter().map(ShownOrder::to_operator).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn order(&self, id: OrderId) -> Answer {
        let ledger = self.app.sales.ledger();
        let failed = |error| errors::ledger(&error);
        let key =
            ledger.locate(Reference::Order(id)).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        let order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_operator(&order))))
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
        advanced(self.run(work).await?)
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
        advanced(self.run(work).await?)
    }
}

fn advanced(outcome: Advanced) -> Answer {
    let order = errors::advanced(outcome)?;
    Ok(no_store(json(StatusCode::OK, &ShownOrder::to_operator(&order))))
}
