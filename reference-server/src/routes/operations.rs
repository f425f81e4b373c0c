//! The operations listener.

use bytes::Bytes;
use hyper::{Method, StatusCode, header::HeaderValue};

use crate::http::{Handler, Prepared, Problem, Request, Response, segments};

/// Answers operators and monitors.
#[derive(Debug)]
pub struct Operations {
    alive: Prepared,
}

impl Operations {
    /// Answers from what is known before anything is loaded.
    pub fn new() -> Self {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        Self { alive: Prepared::new(StatusCode::OK, text, Bytes::from_static(b"alive\n")).no_store() }
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self::new()
    }
}

impl Handler for Operations {
    async fn handle(&self, request: Request) -> Response {
        let mut room = [""; 8];
        let Some(path) = segments(request.uri().path(), &mut room) else {
            return Problem::not_found().into_response();
        };
        match (path, request.method()) {
            (["healthz"], &Method::GET | &Method::HEAD) => self.alive.respond(),
            (["healthz"], _) => Problem::method_not_allowed("GET, HEAD").into_response(),
            _ => Problem::not_found().into_response(),
        }
    }
}
