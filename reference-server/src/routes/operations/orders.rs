//! Orders, for customer support.

use std::sync::Arc;

use flashsale_core::{
    domain::{Identity, Key, Order, OrderId, OrderKey, OrderRef, RefundOrder, Text, UserId},
    ledger::LedgerCalls as _,
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
    routes::{Answer, after, errors, headers::idempotency_key, id, limit},
    views::{Page, ShownOrder},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundRequest {
    /// In minor units; all that is left if absent.
    amount: Option<u64>,
    units_returned: UnitsReturned,
    reason: Text,
}

/// All units that are left, none, or some.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a number of units")]
enum UnitsReturned {
    All(bool),
    Some(u32),
}

impl RefundRequest {
    /// What to refund. Without a key, the same request to the same order is the same refund.
    fn order(&self, id: OrderId, key: Option<Key>) -> RefundOrder {
        let units = match self.units_returned {
            UnitsReturned::All(all) => (!all).then_some(0),
            UnitsReturned::Some(units) => Some(units),
        };
        let amount = self.amount;
        let own = || Key::of_text(&format!("{id} {amount:?} {units:?} {}", self.reason.as_str()));
        RefundOrder { key: key.unwrap_or_else(own), amount, units }
    }
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
        let mut items = Vec::with_capacity(orders.len());
        for order in &orders {
            items.push(self.shown(order, identity.clone()).await?);
        }
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn order(&self, order: &str) -> Answer {
        let key = self.find_order(order).await?;
        let order = self.app.sales.ledger().order(key).await.map_err(|error| errors::ledger(&error))?;
        self.answer(&order.ok_or_else(Problem::not_found)?).await
    }

    /// Finds an order by its reference, or by its bare id, which logs and jobs show.
    async fn find_order(&self, order: &str) -> Result<OrderKey, Problem> {
        let (activity, order) = match order.parse() {
            Ok(OrderRef { activity, order }) => (Some(activity), order),
            Err(_) => (None, id::<OrderId>(order)?),
        };
        let found = self.app.sales.ledger().locate(activity, order).await;
        found.map_err(|error| errors::ledger(&error))?.ok_or_else(Problem::not_found)
    }

    /// Answers with an order and its buyer's identity.
    async fn answer(&self, order: &Order) -> Answer {
        let identity = self.identity(order.key.user).await?;
        Ok(no_store(json(StatusCode::OK, &self.shown(order, identity).await?)))
    }

    async fn shown(&self, order: &Order, identity: Option<Identity>) -> Result<ShownOrder, Problem> {
        let payment = self.app.sales.payment_of(order).await.map_err(|error| errors::ledger(&error))?;
        Ok(ShownOrder::to_operator(order, payment, identity))
    }

    async fn identity(&self, user: UserId) -> Result<Option<Identity>, Problem> {
        self.app.buyers.identity(user).await.map_err(|error| errors::identities(&error))
    }

    pub(super) async fn cancel_order(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        order: &str,
        body: Body,
    ) -> Answer {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, "cancelled by an operator"))?;
        let key = self.find_order(order).await?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.cancel(key, &author).await };
        let order = errors::advanced(self.run(work).await?)?;
        self.answer(&order).await
    }

    pub(super) async fn refund_order(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        order: &str,
        body: Body,
    ) -> Answer {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let request: RefundRequest = body.json(&head.headers).await?;
        let key = self.find_order(order).await?;
        let refund = request.order(key.id, idempotency_key(&head.headers)?);
        let by = by(operator, request.reason)?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.refund(key, refund, &author).await };
        let order = errors::advanced(self.run(work).await?)?;
        self.answer(&order).await
    }
}
