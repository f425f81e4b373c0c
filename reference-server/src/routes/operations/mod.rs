//! The operations listener: authentication and routing. Each resource has its own file.

mod activities;
mod audit;
mod backup;
mod callbacks;
mod catalogue;
mod clock;
mod console;
mod dead_letters;
mod import;
mod kill_switch;
mod names;
mod offers;
mod orders;
mod precondition;
mod reconciliation;
mod request;
mod stock;

use std::sync::Arc;

use flashsale_core::{
    domain::{ActivityId, Attribution, Name, Text},
    service::OperationError,
};
use hyper::{HeaderMap, Method, StatusCode, header::HeaderValue, http::request::Parts};
use serde::Serialize;

use self::request::Decision;
use super::{Answer, alive, errors, headers, id, only_get, only_post, openapi, route_labels};
use crate::{
    app::App,
    config::{OperationsToken, OperatorRole},
    http::{
        Body, Code, Handler, Prepared, Problem, Request, Response, Traffic, accepted_weight, decode_segment,
        json, no_store, segments,
    },
    monitoring::metrics,
};

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Handles the requests of operators and monitors.
#[derive(Debug)]
pub struct Operations {
    app: Arc<App>,
    traffic: Arc<Traffic>,
}

/// On which pages buyers see a change.
enum Seen {
    Nowhere,
    Activity(ActivityId),
    Anywhere,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: [&'static str; 0],
}

impl Operations {
    /// Creates the handler for `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self::counted_by(app, Self::counters())
    }

    /// Creates the counters of the listener, for a handler that comes later.
    pub fn counters() -> Arc<Traffic> {
        Traffic::new("operations", route_labels::OPERATIONS, 0)
    }

    /// As [`new`](Self::new), with counters that exist already.
    pub fn counted_by(app: Arc<App>, traffic: Arc<Traffic>) -> Self {
        app.metrics.watch(&traffic);
        Self { app, traffic }
    }

    async fn route(&self, head: &Parts, body: Body) -> Answer {
        let mut buffer = [""; 8];
        let path = segments(head.uri.path(), &mut buffer).ok_or_else(Problem::not_found)?;
        let method = &head.method;
        match path {
            ["healthz"] => only_get(method).and_then(|()| self.healthy()),
            ["readyz"] => only_get(method).and_then(|()| self.ready()),
            ["metrics"] => {
                only_get(method)?;
                Ok(self.metrics(&head.headers).await)
            }
            ["assets", name] => {
                only_get(method)?;
                console::asset(&head.headers, name)
            }
            ["openapi.json"] => only_get(method).map(|()| openapi::operations().respond(&head.headers)),
            ["v1", ..] => {
                let operator = self.operator(&head.headers)?;
                Box::pin(self.call(operator, head, path, body)).await
            }
            _ => {
                let answer = console::page(&head.headers, path)?;
                only_get(method).map(|()| answer)
            }
        }
    }

    async fn call(&self, operator: &OperationsToken, head: &Parts, path: &[&str], body: Body) -> Answer {
        let method = &head.method;
        match path {
            ["v1", "products"] => self.products(operator, head, body).await,
            ["v1", "products", product] => {
                only_get(method)?;
                self.product(id(product)?).await
            }
            ["v1", "skus"] => self.skus(operator, head, body).await,
            ["v1", "skus", sku] => {
                only_get(method)?;
                self.sku(id(sku)?).await
            }
            ["v1", "activities"] => self.activities(operator, head, body).await,
            ["v1", "activities", activity] => self.activity(operator, head, id(activity)?, body).await,
            ["v1", "activities", activity, "offers"] => {
                self.attach_offer(operator, head, id(activity)?, body).await
            }
            ["v1", "activities", activity, "offers", sku] => {
                self.offer(operator, head, id(activity)?, id(sku)?, body).await
            }
            ["v1", "activities", activity, "offers", sku, "stock"] => {
                only_get(method)?;
                self.stock(id(activity)?, id(sku)?).await
            }
            ["v1", "activities", activity, "offers", sku, "adjustments"] => {
                only_post(method)?;
                self.adjust(operator, head, id(activity)?, id(sku)?, body).await
            }
            ["v1", "activities", activity, step] => {
                self.step(operator, head, id(activity)?, step, body).await
            }
            ["v1", "kill-switch"] => self.kill_switch(operator, head, body).await,
            ["v1", "clock"] => only_get(method).and_then(|()| self.clock()),
            ["v1", "clock", "step"] => {
                only_post(method)?;
                self.step_clock(operator, head, body).await
            }
            ["v1", "orders", order, "cancel"] => self.cancel_order(operator, head, order, body).await,
            ["v1", "orders", order, "refund"] => self.refund_order(operator, head, order, body).await,
            ["v1", "users", user, "name"] => {
                self.erase_name(operator, head, id(&decode_segment(user)?)?, body).await
            }
            ["v1", "audit"] => self.audit(operator, head).await,
            ["v1", "audit", "verification"] => self.verify_audit(operator, head).await,
            ["v1", "orders"] => {
                only_get(method)?;
                self.orders(head).await
            }
            ["v1", "orders", order] => {
                only_get(method)?;
                self.order(order).await
            }
            ["v1", "dead-letters"] => self.dead_letters(operator, head).await,
            ["v1", "dead-letters", number] => {
                only_get(method)?;
                self.dead_letter(operator, number).await
            }
            ["v1", "dead-letters", number, "replay"] => {
                self.resolve_dead_letter(operator, head, number, Decision::Replay, body).await
            }
            ["v1", "dead-letters", number, "discard"] => {
                self.resolve_dead_letter(operator, head, number, Decision::Discard, body).await
            }
            ["v1", "callbacks"] => self.callbacks(operator, head).await,
            ["v1", "callbacks", number, "replay"] => {
                self.resolve_callback(operator, head, number, Decision::Replay, body).await
            }
            ["v1", "callbacks", number, "discard"] => {
                self.resolve_callback(operator, head, number, Decision::Discard, body).await
            }
            ["v1", "import"] => {
                only_post(method)?;
                self.import(operator, head, body).await
            }
            ["v1", "backup"] => {
                only_post(method)?;
                self.backup(operator, head, body).await
            }
            ["v1", "reconciliation"] => {
                only_get(method)?;
                self.reconciliation(operator).await
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// Authenticates the operator. Compares every token so that timing reveals nothing about them.
    fn operator(&self, headers: &HeaderMap) -> Result<&OperationsToken, Problem> {
        let refused = || Problem::unauthorized("Send an operations token as Authorization: Bearer.");
        let token = headers::bearer(headers).ok_or_else(refused)?.as_bytes();
        let mut found = None;
        for known in &self.app.tokens {
            if known.token.matches(token) {
                found = Some(known);
            }
        }
        found.ok_or_else(refused)
    }

    /// Renders the metrics in the format that the client prefers, OpenMetrics if it has no
    /// preference. They contain no buyer data, so no token is required.
    async fn metrics(&self, headers: &HeaderMap) -> Response {
        let page = metrics::read(&self.app).await;
        let weight = |media_type| accepted_weight(headers, media_type);
        let (kind, text) = if weight("text/plain") > weight("application/openmetrics-text") {
            (PROMETHEUS, page.prometheus_text())
        } else {
            (OPENMETRICS, page.text())
        };
        Prepared::new(StatusCode::OK, kind, text).no_store().respond()
    }

    /// Runs work to completion even if the client disconnects.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, OperationError>> + Send + 'static,
    ) -> Result<T, Problem> {
        let done = self.app.spawner.run(work).await.map_err(errors::lost)?;
        done.map_err(|error| errors::operation(&error))
    }

    /// As [`run`](Self::run), and updates the pages that show the result.
    async fn run_and_show<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, OperationError>> + Send + 'static,
        seen: fn(&T) -> Seen,
    ) -> Result<T, Problem> {
        let storefront = Arc::clone(&self.app.storefront);
        let work = self.app.spawner.run(async move {
            let done = work.await.map_err(|error| errors::operation(&error))?;
            let refreshed = match seen(&done) {
                Seen::Nowhere => return Ok(done),
                Seen::Activity(id) => storefront.refresh_activity(id).await,
                Seen::Anywhere => storefront.refresh().await,
            };
            refreshed.map_err(|error| {
                tracing::error!(%error, "an operator's change could not be published");
                errors::unavailable("Changed but not published yet; repeat the request to publish it.")
            })?;
            // Documents that fail to render here are rendered on their first request.
            let _ = storefront.warm().await;
            Ok(done)
        });
        work.await.map_err(errors::lost)?
    }

    fn healthy(&self) -> Answer {
        match self.app.failure() {
            None => Ok(alive()),
            Some(reason) => Err(errors::failed().with("reasons", [reason])),
        }
    }

    fn ready(&self) -> Answer {
        let reasons = self.app.obstacles();
        if reasons.is_empty() {
            return Ok(no_store(json(StatusCode::OK, &Readiness { ready: true, reasons: [] })));
        }
        Err(errors::not_ready().with("reasons", reasons))
    }
}

impl Handler for Operations {
    fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    async fn handle(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        self.route(&head, body).await.unwrap_or_else(Problem::into_response)
    }
}

/// Returns the method of a request, or 405 if it is not one of `allowed`.
fn method_of(head: &Parts, allowed: &'static str) -> Result<Method, Problem> {
    if allowed.split(", ").any(|method| method == head.method.as_str()) {
        Ok(head.method.clone())
    } else {
        Err(Problem::method_not_allowed(allowed))
    }
}

/// Requires one of these roles.
fn require(operator: &OperationsToken, roles: &[OperatorRole]) -> Result<(), Problem> {
    if roles.iter().any(|role| operator.roles.contains(role)) {
        return Ok(());
    }
    let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    let detail = format!("This requires a token with the role {}.", roles.join(" or "));
    Err(Problem::new(Code::Forbidden, detail))
}

/// Attributes a change to the operator, for the audit trail.
fn by(operator: &OperationsToken, reason: Text) -> Result<Attribution, Problem> {
    let actor: Name = operator.name.parse().map_err(|error| errors::invalid(&error))?;
    Ok(Attribution { actor, reason })
}
