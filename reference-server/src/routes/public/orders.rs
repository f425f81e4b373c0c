//! Orders of buyers: place, read, cancel.

use std::time::Duration;

use flashsale_core::{
    admission::{Limited, Rule, Verdict},
    domain::{
        Idempotency, Key, Order, OrderKey, OrderRef, OrderStatus, Quantity, RefundStatus, Subject, SubjectId,
        Subjects,
    },
    ledger::{LedgerCalls as _, Outcome, Position},
    service::{OrderRequest, Placement},
};
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
    http::request::Parts,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::{
    auth::receipts::Receipt,
    http::{Body, Code, Problem, Query, json, no_store},
    routes::{Answer, Public, after, errors, headers, id, limit, only_get, only_post},
    views::{Page, ShownOrder},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The shortest and longest pause between reads of an order that a client waits for. It grows so
/// that waiting clients do not compete with buyers for the ledger.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceOrderBody {
    #[serde(default = "one")]
    quantity: Quantity,
}

fn one() -> Quantity {
    Quantity::ONE
}

/// A new or repeated order, with what allows reading it without a session.
#[derive(Serialize)]
struct PlacedOrder {
    #[serde(flatten)]
    order: ShownOrder,
    receipt: String,
}

impl Public {
    /// Places an order. This is the hot path: ticket, local view, rate limits, batcher.
    pub(super) async fn place(&self, head: &Parts, ticket: &str, body: Body) -> Answer {
        let app = &*self.app;
        let now = app.clock.now();
        let device = headers::device(&head.headers)?;
        let ticket = app.tickets.verify(ticket, now, device).map_err(|error| {
            app.guards.count(Rule::Ticket, Verdict::Denied);
            errors::ticket(error)
        })?;
        let key = headers::idempotency_key(&head.headers)?;
        let address = self.address(head, &body);
        let quantity = if body.is_empty() {
            Quantity::ONE
        } else {
            body.json::<PlaceOrderBody>(&head.headers).await?.quantity
        };
        let device = ticket.claims.device.or(device);
        let (user, activity, sku) = (ticket.claims.user, ticket.claims.activity, ticket.claims.sku);
        let request = OrderRequest {
            user,
            activity,
            sku,
            quantity,
            idempotency: Idempotency {
                key: key.unwrap_or_else(|| Key::of_nonce(ticket.nonce)),
                nonce: ticket.nonce,
            },
            subjects: Subjects { device, address: Some(address) },
            ticket_expired: ticket.expired,
        };
        if app.sales.sale(activity).is_none() {
            // Looking for its order in the archive costs more than the local view.
            app.guards.order(user, address, now).map_err(|limited| too_often(&limited))?;
        }
        let attempt = app.ordering.attempt(&request).await.map_err(|error| errors::service(&error))?;
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(outcome) => return self.declined(&outcome, device),
        };
        app.guards.order(user, address, now).map_err(|limited| too_often(&limited))?;
        match attempt.place().await.map_err(|error| errors::service(&error))? {
            Placement::Placed(order, position) => self.placed(StatusCode::CREATED, &order, position).await,
            Placement::Existing(order, position) => self.placed(StatusCode::OK, &order, position).await,
            Placement::Declined(outcome) => self.declined(&outcome, device),
        }
    }

    fn declined(&self, outcome: &Outcome, device: Option<SubjectId>) -> Answer {
        match outcome {
            Outcome::SoldOut { available: 0 } => Ok(self.sold_out.respond()),
            Outcome::LimitReached { rule, remaining }
                if device.is_none() && rule.subject == Subject::Device =>
            {
                Err(errors::device_needed(rule, *remaining))
            }
            _ => Err(errors::declined(outcome, self.app.clock.now())),
        }
    }

    /// Answers with a new or repeated order: 202 while it is queued, otherwise `status`.
    async fn placed(&self, status: StatusCode, order: &Order, position: Position) -> Answer {
        let status = if order.persisted { status } else { StatusCode::ACCEPTED };
        let reference = order.key.reference();
        let receipt = self.app.receipts.issue(reference, Receipt { user: order.key.user, position });
        let placed = PlacedOrder { order: self.shown(order).await?, receipt };
        let mut response = no_store(json(status, &placed));
        if let Ok(location) = HeaderValue::try_from(format!("/v1/orders/{reference}")) {
            response.headers_mut().insert(LOCATION, location);
        }
        if !order.persisted {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Ok(response)
    }

    /// Shows an order to its owner.
    async fn shown(&self, order: &Order) -> Result<ShownOrder, Problem> {
        let payment = self.app.sales.payment_of(order).await.map_err(|error| errors::ledger(&error))?;
        Ok(ShownOrder::to_owner(order, payment))
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
        let user = self.caller(&head.headers).await?.user;
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let mut orders = self
            .app
            .ordering
            .orders_of(user, after, limit + 1)
            .await
            .map_err(|error| errors::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let mut items = Vec::with_capacity(orders.len());
        for order in &orders {
            items.push(self.shown(order).await?);
        }
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    /// Shows an order to its owner.
    ///
    /// Ordering needs only a ticket, so the client may have no session. It can use the receipt of the
    /// order instead, which names the user and allows reading this one order. A session is then
    /// ignored; a forged receipt or one of another order is answered 404.
    async fn read(&self, head: &Parts, order: &str) -> Answer {
        Query::parse(head.uri.query(), &[])?;
        let key = match headers::receipt(&head.headers)? {
            None => {
                let user = self.caller(&head.headers).await?.user;
                id::<OrderRef>(order)?.key(user)
            }
            Some(text) => {
                let order: OrderRef = id(order)?;
                let receipt = self.app.receipts.verify(order, text).ok_or_else(Problem::not_found)?;
                order.key(receipt.user)
            }
        };
        let mut order = self.order_at(key).await?;
        // `Prefer` is only a preference: without a free permit the answer is immediate.
        if let Some(wait) = headers::wait(&head.headers)
            && let Ok(_permit) = self.waiting.try_acquire()
        {
            let (end, seen) = (Instant::now() + wait, order.revision);
            let mut pause = FIRST_PAUSE;
            while may_change(&order) && order.revision == seen && Instant::now() < end {
                sleep_until(end.min(Instant::now() + pause)).await;
                pause = (pause * 3 / 2).min(MAX_PAUSE);
                order = self.order_at(key).await?;
            }
        }
        Ok(no_store(json(StatusCode::OK, &self.shown(&order).await?)))
    }

    async fn order_at(&self, key: OrderKey) -> Result<Order, Problem> {
        let order = self.app.sales.ledger().order(key).await.map_err(|error| errors::ledger(&error))?;
        order.ok_or_else(Problem::not_found)
    }

    async fn cancel(&self, head: &Parts, order: &str, body: Body) -> Answer {
        let user = self.caller(&head.headers).await?.user;
        let order = id::<OrderRef>(order)?.key(user);
        nothing(head, body).await?;
        let (ordering, payments) = (self.app.ordering.clone(), self.app.payments.clone());
        let work = self.app.spawner.run(async move { ordering.cancel(order, &payments).await });
        let outcome = work.await.map_err(errors::lost)?.map_err(|error| errors::service(&error))?;
        let order = errors::advanced(outcome)?;
        Ok(no_store(json(StatusCode::OK, &self.shown(&order).await?)))
    }
}

/// Answers 429 with RateLimit fields (draft-ietf-httpapi-ratelimit-headers) for the quota.
pub(super) fn too_often(limited: &Limited) -> Problem {
    let Limited { rule, quota, retry_after } = limited;
    let window = quota.interval() * quota.burst().get();
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    let problem =
        Problem::new(Code::RateLimited, "Try again after the time in Retry-After.").retry_after(*retry_after);
    let name = rule.as_str();
    let fields = [
        (RATE_LIMIT_POLICY, format!("\"{name}\";q={};w={}", quota.burst(), window.as_secs().max(1))),
        (RATE_LIMIT, format!("\"{name}\";r=0;t={seconds}")),
    ];
    fields.into_iter().fold(problem, |problem, (name, value)| match HeaderValue::from_str(&value) {
        Ok(value) => problem.with_header(name, value),
        Err(_) => problem,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads the body of a call without parameters: empty, or an empty JSON object.
pub(super) async fn nothing(head: &Parts, body: Body) -> Result<(), Problem> {
    if !body.is_empty() {
        let Nothing {} = body.json(&head.headers).await?;
    }
    Ok(())
}

fn may_change(order: &Order) -> bool {
    let refund_is_due = order.refund().is_some_and(|refund| refund.status == RefundStatus::Due);
    order.status.is_open()
        || refund_is_due
        || (order.status == OrderStatus::Expired && order.payment().is_some())
}
