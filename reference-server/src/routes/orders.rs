//! Orders of buyers: placing, reading, giving up.

use std::time::Duration;

use flashsale_core::{
    domain::{Idempotency, Key, Order, OrderId, OrderStatus, Quantity, RefundStatus, Subjects},
    ledger::{Outcome, Reference},
    rate::Decision,
    service::{OrderRequest, Placement},
};
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
    http::request::Parts,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{
    Answer, Public, after, answers, headers, id, limit, only_get, only_post,
    shown::{Page, ShownOrder},
};
use crate::{
    app::address_subject,
    http::{Body, Code, Problem, Query, Response, json, no_store},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How often an order is read while somebody waits for it to change: soon at first, then less and less, so that those who
/// wait do not keep the ledger from those who buy.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    quantity: Quantity,
}

impl Public {
    /// The hot path: ticket, local view, rate, queue.
    pub(super) async fn place(&self, head: &Parts, ticket: &str, body: Body) -> Answer {
        let app = &*self.app;
        let now = app.clock.now();
        let device = headers::device(&head.headers)?;
        let ticket = app.tickets.verify(ticket, now, device).map_err(answers::ticket)?;
        let key = headers::idempotency_key(&head.headers)?;
        let peer = body.peer();
        let Wanted { quantity } = body.json(&head.headers).await?;
        let (user, activity, sku) = (ticket.claims.user, ticket.claims.activity, ticket.claims.sku);
        if let Some(outcome) = app.ordering.shortcut(user, activity, sku) {
            // Nobody whom the view declines has an order that an expired ticket could repeat.
            return self.declined(if ticket.expired { &Outcome::TicketExpired } else { &outcome });
        }
        if let Decision::Limited { retry_after } = app.limiter.check(user.value(), now) {
            return Err(self.too_often(retry_after));
        }
        let request = OrderRequest {
            user,
            activity,
            sku,
            quantity,
            idempotency: Idempotency {
                key: key.unwrap_or_else(|| Key::of_nonce(ticket.nonce)),
                nonce: ticket.nonce,
            },
            subjects: Subjects {
                device: ticket.claims.device.or(device),
                address: Some(address_subject(peer)),
            },
            ticket_expired: ticket.expired,
        };
        match app.ordering.place(&request).await.map_err(|error| answers::service(&error))? {
            Placement::Placed(order, _) => Ok(placed(StatusCode::CREATED, &order)),
            Placement::Existing(order) => Ok(placed(StatusCode::OK, &order)),
            Placement::Declined(outcome) => self.declined(&outcome),
        }
    }

    fn declined(&self, outcome: &Outcome) -> Answer {
        if *outcome == (Outcome::SoldOut { available: 0 }) {
            return Ok(self.sold_out.respond());
        }
        Err(answers::declined(outcome, self.app.clock.now()))
    }

    fn too_often(&self, retry_after: Duration) -> Problem {
        let quota = self.app.limiter.quota();
        let window = quota.interval() * quota.burst().get();
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        let problem = Problem::new(Code::RateLimited, "Come back at the time that Retry-After gives.")
            .retry_after(retry_after);
        let fields = [
            (RATE_LIMIT_POLICY, format!("\"user\";q={};w={}", quota.burst(), window.as_secs())),
            (RATE_LIMIT, format!("\"user\";r=0;t={seconds}")),
        ];
        fields.into_iter().fold(problem, |problem, (name, value)| match HeaderValue::from_str(&value) {
            Ok(value) => problem.with_header(name, value),
            Err(_) => problem,
        })
    }

    /// Everything about orders but placing them.
    pub(super) async fn orders(&self, head: &Parts, path: &[&str], body: Body) -> Answer {
        let method = &head.method;
        match path {
            [_, _] => {
                only_get(method)?;
                self.list(head).await
            }
            [_, _, order] if matches!(*method, Method::GET | Method::HEAD) => self.read(head, order).await,
            [_, _, _] => Err(Problem::method_not_allowed("GET, HEAD, POST")),
            [_, _, order, "cancel"] => {
                only_post(method)?;
                self.cancel(head, order, body).await
            }
            [_, _, order, "payment"] => {
                only_post(method)?;
                self.open_payment(head, order, body).await
            }
            _ => Err(Problem::not_found()),
        }
    }

    async fn list(&self, head: &Parts) -> Answer {
        let user = self.caller(&head.headers)?.user;
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let mut orders = self
            .app
            .ordering
            .orders_of(user, after, limit + 1)
            .await
            .map_err(|error| answers::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let items = orders.iter().map(ShownOrder::to_owner).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    async fn read(&self, head: &Parts, order: &str) -> Answer {
        let user = self.caller(&head.headers)?.user;
        Query::parse(head.uri.query(), &["receipt"])?;
        let id: OrderId = id(order)?;
        let ledger = self.app.sales.ledger();
        let failed = |error| answers::ledger(&error);
        let key = ledger.locate(Reference::Order(id)).await.map_err(failed)?;
        let key = key.filter(|key| key.user == user).ok_or_else(Problem::not_found)?;
        let mut order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        if let Some(wait) = headers::wait(&head.headers) {
            let (end, seen, mut pause) = (Instant::now() + wait, order.revision, FIRST_LOOK);
            while may_change(&order) && order.revision == seen && Instant::now() < end {
                sleep(pause.min(end - Instant::now())).await;
                pause = (pause * 3 / 2).min(LAST_LOOK);
                order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
            }
        }
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_owner(&order))))
    }

    async fn cancel(&self, head: &Parts, order: &str, body: Body) -> Answer {
        let user = self.caller(&head.headers)?.user;
        let id: OrderId = id(order)?;
        nothing(head, body).await?;
        let (ordering, payments) = (self.app.ordering.clone(), self.app.payments.clone());
        let work = self.app.spawner.run(async move { ordering.cancel(user, id, &payments).await });
        let outcome = work.await.map_err(answers::lost)?.map_err(|error| answers::service(&error))?;
        let order = answers::advanced(outcome)?;
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_owner(&order))))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads the body of a call that takes none: empty, or an empty object.
pub(super) async fn nothing(head: &Parts, body: Body) -> Result<(), Problem> {
    if !body.is_empty() {
        let Nothing {} = body.json(&head.headers).await?;
    }
    Ok(())
}

/// An order that was just placed, or asked for again. One that the truth does not have yet is accepted, not created.
fn placed(status: StatusCode, order: &Order) -> Response {
    let status = if order.persisted { status } else { StatusCode::ACCEPTED };
    let mut response = no_store(json(status, &ShownOrder::to_owner(order)));
    let location = HeaderValue::from_str(&format!("/v1/orders/{}", order.key.id));
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    if !order.persisted {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn may_change(order: &Order) -> bool {
    let refund_is_due = order.refund().is_some_and(|(_, refund)| refund.status == RefundStatus::Due);
    order.status.is_open()
        || refund_is_due
        || (order.status == OrderStatus::Expired && order.payment().is_some())
}
