//! The routes of the public listener.

mod catalogue;
mod orders;
mod payments;
mod tickets;

use std::sync::Arc;

use flashsale_core::domain::SubjectId;
use hyper::{HeaderMap, StatusCode, header::HeaderValue, http::request::Parts};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::{
    app::{App, address_subject},
    auth::{caller::Caller, jwt::Jwt},
    http::{
        Body, Handler, Prepared, Problem, Request, Response, Traffic, client_address, json, no_store,
        segments,
    },
    rfc3339::Rfc3339,
    routes::{Answer, alive, cors, errors, headers, only_get, only_post, openapi, route_labels},
    storefront::{
        assets::{self, Audience},
        pages::Language,
    },
};

/// The most `Prefer: wait` answers held at once; each reads its order about once a second.
const MAX_WAITING: usize = 4096;

/// Handles the requests of buyers and payment providers.
#[derive(Debug)]
pub struct Public {
    pub(super) app: Arc<App>,
    pub(super) sold_out: Prepared,
    /// Permits for answers that are held until the order changes.
    pub(super) waiting: Semaphore,
    /// The headers that pages of other origins may send.
    cors_headers: HeaderValue,
    traffic: Arc<Traffic>,
}

impl Public {
    /// Creates the handler for `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self::counted_by(app, Self::counters())
    }

    /// Creates the counters of the listener, for a handler that comes later.
    pub fn counters() -> Arc<Traffic> {
        Traffic::new("public", route_labels::PUBLIC, route_labels::SAMPLED)
    }

    /// As [`new`](Self::new), with counters that exist already.
    pub fn counted_by(app: Arc<App>, traffic: Arc<Traffic>) -> Self {
        app.metrics.watch(&traffic);
        let sold_out = errors::sold_out(0).prepared();
        let cors_headers = cors::request_headers(&app.cors_headers);
        Self { app, sold_out, waiting: Semaphore::new(MAX_WAITING), cors_headers, traffic }
    }

    async fn route(&self, head: &Parts, body: Body) -> Answer {
        let mut buffer = [""; 8];
        let path = segments(head.uri.path(), &mut buffer).ok_or_else(Problem::not_found)?;
        let method = &head.method;
        if self.app.health_path.as_deref() == Some(head.uri.path()) {
            return only_get(method).and_then(|()| self.healthy());
        }
        match path {
            // The hot path is part of the handler's own future; rare or long-running routes are boxed.
            ["v1", "orders", ticket] if *method == hyper::Method::POST => {
                self.place(head, ticket, body).await
            }
            ["v1", "activities", id, "status"] => only_get(method).and_then(|()| self.status(id)),
            ["v1", "orders", ..] => Box::pin(self.orders(head, path, body)).await,
            ["v1", "activities", activity, "offers", sku, "ticket"] => {
                only_post(method)?;
                Box::pin(self.ticket(head, activity, sku, body)).await
            }
            ["v1", "activities", activity, "offers", sku, "challenge"] => {
                only_post(method)?;
                Box::pin(self.challenge(head, activity, sku, body)).await
            }
            ["v1", "sessions"] => {
                only_post(method)?;
                Box::pin(self.sign_in(head, body)).await
            }
            ["v1", "payments", "callbacks", provider] => {
                only_post(method)?;
                Box::pin(self.callback(head, provider, body)).await
            }
            ["sandbox", "payments", payment] => {
                only_get(method)?;
                self.pay_page(head, payment)
            }
            ["sandbox", "payments", payment, report] => {
                only_post(method)?;
                Box::pin(self.sandbox(payment, report)).await
            }
            ["v1", "time"] => only_get(method).map(|()| self.time()),
            ["v1", "activities"] => only_get(method).and_then(|()| self.activities(head)),
            ["v1", "activities", id] => {
                only_get(method)?;
                self.rendered(&["activities", id]).await?;
                self.activity(head, id)
            }
            ["v1", "products", id] => {
                only_get(method)?;
                Box::pin(self.product(head, id)).await
            }
            ["v1", "skus", id] => {
                only_get(method)?;
                Box::pin(self.sku(head, id)).await
            }
            ["openapi.json"] => only_get(method).map(|()| openapi::public().respond(&head.headers)),
            ["assets", name] => {
                only_get(method)?;
                Ok(assets::find(name, Audience::Buyers)
                    .ok_or_else(Problem::not_found)?
                    .respond(&head.headers))
            }
            [first, ..] => {
                let language = Language::of_code(first);
                let page = if language.is_some() { &path[1..] } else { path };
                let page = page.strip_suffix(&[""]).unwrap_or(page);
                let answer = match page {
                    ["products", id] => Box::pin(self.product_page(&head.headers, language, id)).await?,
                    _ => {
                        self.rendered(page).await?;
                        self.page(&head.headers, language, page)?
                    }
                };
                only_get(method).map(|()| answer)
            }
            [] => Err(Problem::not_found()),
        }
    }

    /// Authenticates the caller, and makes sure that their number is no other user's.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = self.authenticated(headers)?;
        self.app.buyers.check(&caller).await.map_err(|error| errors::buyer(&error))?;
        Ok(caller)
    }

    /// Authenticates the caller by a JWT or a demo session.
    fn authenticated(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let app = &self.app;
        let refused = || Problem::unauthorized("Sign in, and send the token as Authorization: Bearer.");
        let token = headers::bearer(headers).ok_or_else(refused)?;
        match (&app.jwt, &app.sessions) {
            (Some(jwt), sessions) if sessions.is_none() || Jwt::is_meant(token) => {
                let caller = jwt.verify(token, app.clock.now());
                caller.map(Arc::unwrap_or_clone).map_err(|error| errors::token(&error))
            }
            (_, Some(sessions)) => sessions.verify(token, app.clock.now()).ok_or_else(|| {
                Problem::unauthorized("The session has expired or belongs to another server; sign in again.")
            }),
            _ => Err(refused()),
        }
    }

    /// Returns the client address for limits and rates; see [`client_address`].
    pub(super) fn address(&self, head: &Parts, body: &Body) -> SubjectId {
        address_subject(client_address(body.peer(), &head.headers, &self.app.trusted_proxies))
    }

    /// Answers a probe, without the reasons that `/healthz` gives operators.
    fn healthy(&self) -> Answer {
        if self.app.failure().is_none() { Ok(alive()) } else { Err(errors::failed()) }
    }

    fn time(&self) -> Response {
        no_store(json(StatusCode::OK, &Time { now: Rfc3339(self.app.clock.now()) }))
    }
}

impl Handler for Public {
    fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    async fn handle(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        if self.app.origins.is_empty() {
            return self.route(&head, body).await.unwrap_or_else(Problem::into_response);
        }
        let origin = cors::allowed(&self.app.origins, &head.headers);
        let preflight =
            origin.as_ref().and_then(|_| cors::preflight(&head.method, &head.headers, &self.cors_headers));
        let mut response = match preflight {
            Some(response) => response,
            None => self.route(&head, body).await.unwrap_or_else(Problem::into_response),
        };
        cors::grant(&mut response, origin);
        response
    }
}

#[derive(Serialize)]
struct Time {
    now: Rfc3339,
}
