//! Wraps the handler of every request: head limits, time limit, panics, request id, metrics.

use std::{
    convert::Infallible,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use hyper::{
    body::Incoming,
    header::{CONNECTION, HeaderName, HeaderValue},
};

use super::{
    Body, Code, Handler, Problem, Response,
    body::BodyLimits,
    request_id::{self, RequestIds},
    request_smuggling,
    timeout::within,
    traffic::{Counters, FailedHandshake, Traffic},
};
use crate::{config::HttpConfig, runtime::current_request};

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A worker's path to the handler. One per worker, so that cores do not share reference counts.
#[derive(Debug)]
pub(super) struct Dispatch<H> {
    handler: Arc<H>,
    traffic: Arc<Traffic>,
    counters: Arc<Counters>,
    ids: RequestIds,
    body: BodyLimits,
    head_fields: usize,
    timeout: Duration,
    stopping: Arc<AtomicBool>,
}

impl<H: Handler> Dispatch<H> {
    pub(super) fn new(handler: Arc<H>, config: &HttpConfig, stopping: Arc<AtomicBool>) -> Self {
        let traffic = Arc::clone(handler.traffic());
        Self {
            handler,
            counters: traffic.worker(),
            traffic,
            ids: RequestIds::new(),
            body: BodyLimits { max_bytes: config.body_bytes, timeout: config.body_timeout() },
            head_fields: config.head_fields,
            timeout: config.request_timeout(),
            stopping,
        }
    }

    /// Answers one request, even if the handler panics or takes too long.
    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response, Infallible> {
        let id = self.ids.next();
        let (head, incoming) = request.into_parts();
        let closes = request_smuggling::has_chunks(&head.headers);
        let begun = self.traffic.begin(&self.counters, &head.method, head.uri.path());
        let mut response = if head.headers.len() > self.head_fields {
            head_too_large(self.head_fields)
        } else if let Some(problem) = request_smuggling::refusal(&head) {
            refused(problem)
        } else {
            let request = hyper::Request::from_parts(head, Body::new(incoming, self.body, peer));
            let work = AssertUnwindSafe(async { self.handler.handle(request).await }).catch_unwind();
            match within(self.timeout, current_request::within(Some(id), work)).await {
                Some(Ok(response)) => response,
                Some(Err(_)) => internal(),
                None => too_slow(self.timeout),
            }
        };
        response.headers_mut().insert(X_REQUEST_ID, request_id::header(id));
        begun.end(&response);
        // The connection may notice a stop only after this answer.
        if closes || self.stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        Ok(response)
    }

    /// Returns the name of the listener.
    pub(super) fn listener(&self) -> &'static str {
        self.traffic.listener()
    }

    /// Counts a connection whose TLS handshake failed.
    pub(super) fn handshake_failed(&self, failed: FailedHandshake) {
        self.counters.handshake_failed(failed);
    }

    /// Serializes a problem as a last raw response, for a connection that hyper does not serve.
    pub(super) fn raw(&self, problem: Problem) -> Vec<u8> {
        let (status, headers, body) = problem.into_parts();
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len())
                .into_bytes();
        for (name, value) in headers.iter().chain([&(X_REQUEST_ID, request_id::header(self.ids.next()))]) {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        bytes
    }
}

#[cold]
fn head_too_large(fields: usize) -> Response {
    let mut response =
        Problem::new(Code::HeadTooLarge, format!("Send at most {fields} header fields.")).into_response();
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

#[cold]
fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

#[cold]
fn internal() -> Response {
    Problem::new(Code::Internal, "The request may have taken effect; repeat it with the same key.")
        .into_response()
}

#[cold]
fn too_slow(limit: Duration) -> Response {
    let detail = format!(
        "No answer within {} ms. The request may still take effect; repeat it with the same key.",
        limit.as_millis()
    );
    Problem::new(Code::Unavailable, detail).retry_after(Duration::from_secs(1)).into_response()
}
