//! What both listeners answer while the stores are opened.

use std::sync::Arc;

use hyper::header::HeaderValue;

use super::{Answer, alive, cors, errors, only_get};
use crate::{
    app::Progress,
    config::HttpConfig,
    http::{Problem, Request, Response},
};

/// Answers the requests of buyers: the server is alive, and not ready.
pub fn public(config: &HttpConfig) -> impl Fn(&Request) -> Response + Send + Sync + use<> {
    let (origins, health_path) = (config.cors_origins.clone(), config.health_path.clone());
    let headers: HeaderValue = cors::request_headers(&config.cors_headers);
    move |request| {
        let is_probe = health_path.as_deref() == Some(request.uri().path());
        let answer = || if is_probe { probe(request) } else { Err(errors::starting()) };
        if origins.is_empty() {
            return answer().unwrap_or_else(Problem::into_response);
        }
        let origin = cors::allowed(&origins, request.headers());
        let preflight =
            origin.as_ref().and_then(|_| cors::preflight(request.method(), request.headers(), &headers));
        let mut response = preflight.unwrap_or_else(|| answer().unwrap_or_else(Problem::into_response));
        cors::grant(&mut response, origin);
        response
    }
}

/// Answers the requests of operators and monitors: the server is alive, and says what it is doing.
pub fn operations(progress: Arc<Progress>) -> impl Fn(&Request) -> Response + Send + Sync {
    move |request| {
        let answer = match request.uri().path() {
            "/healthz" => probe(request),
            "/readyz" => only_get(request.method())
                .and_then(|()| Err(errors::starting().with("reasons", [progress.reason()]))),
            _ => Err(errors::starting()),
        };
        answer.unwrap_or_else(Problem::into_response)
    }
}

fn probe(request: &Request) -> Answer {
    only_get(request.method()).map(|()| alive())
}
