//! The public listener.

use std::sync::Arc;

use flashsale_core::domain::Clock;
use hyper::{Method, StatusCode};
use serde::Serialize;

use crate::{
    http::{Handler, Problem, Request, Response, json, no_store, segments},
    wire::Rfc3339,
};

/// Answers buyers.
#[derive(Debug)]
pub struct Public {
    clock: Arc<dyn Clock>,
}

impl Public {
    /// Answers by the time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    fn time(&self) -> Response {
        no_store(json(StatusCode::OK, &Time { now: Rfc3339(self.clock.now()) }))
    }
}

impl Handler for Public {
    async fn handle(&self, request: Request) -> Response {
        let mut room = [""; 8];
        let Some(path) = segments(request.uri().path(), &mut room) else {
            return Problem::not_found().into_response();
        };
        match (path, request.method()) {
            (["v1", "time"], &Method::GET | &Method::HEAD) => self.time(),
            (["v1", "time"], _) => Problem::method_not_allowed("GET, HEAD").into_response(),
            _ => Problem::not_found().into_response(),
        }
    }
}

#[derive(Serialize)]
struct Time {
    now: Rfc3339,
}
