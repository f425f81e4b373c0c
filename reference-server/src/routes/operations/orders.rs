//! Orders, for support.

use flashsale_core::{
    domain::{OrderId, UserId},
    ledger::Reference,
};
use hyper::{StatusCode, http::request::Parts};

use super::Operations;
use crate::{
    http::{Problem, Query, json, no_store},
    routes::{
        Answer, after, answers, limit,
        shown::{Page, ShownOrder},
    },
};

impl Operations {
    pub(super) async fn orders(&self, head: &Parts) -> Answer {
        let query = Query::parse(head.uri.query(), &["user_id", "limit", "after"])?;
        let user: Option<UserId> = query.parsed("user_id", "the id of a user")?;
        let user = user.ok_or_else(|| Problem::invalid_field("user_id", "Say whose orders."))?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let orders = self.app.ordering.orders_of(user, after, limit + 1).await;
        let mut orders = orders.map_err(|error| answers::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let items = orders.iter().map(ShownOrder::to_operator).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn order(&self, id: OrderId) -> Answer {
        let ledger = self.app.sales.ledger();
        let failed = |error| answers::ledger(&error);
        let key =
            ledger.locate(Reference::Order(id)).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        let order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_operator(&order))))
    }
}
