//! What every request has in common, around the handler: limits of the head, time, panics, request id.

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
    Body, Code, Handler, Problem, Response, ambiguous,
    body::BodyLimits,
    request_id::{self, RequestIds},
    timeout::within,
    traffic::{Counters, FailedHandshake, Traffic},
};
use crate::{config::HttpConfig, runtime::current_request};

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One worker's way to the handler. Each worker has its own, so that counting references is not shared between cores.
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

    /// Answers one request, whatever the handler does.
    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response, Infallible> {
        let id = self.ids.next();
        let (head, incoming) = request.into_parts();
        let closes = ambiguous::has_chunks(&head.headers);
        let begun = self.traffic.begin(&self.counters, &head.method, head.uri.path());
        let mut response = if head.headers.len() > self.head_fields {
            head_too_large(self.head_fields)
        } else if let Some(problem) = ambiguous::refusal(&head) {
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
        // The connection learns of a stop by itself, but perhaps only after this answer.
        if closes || self.stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        Ok(response)
    }

    /// Counts a connection that ended before its first request.
    pub(super) fn handshake_failed(&self, failed: FailedHandshake) {
        self.counters.handshake_failed(failed);
    }

    /// A problem as bytes, for a connection that hyper does not serve (any more); it announces its end.
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
    Problem::new(Code::Internal, "The request may have been carried out; repeat it with the same key.")
        .into_response()
}

#[cold]
fn too_slow(limit: Duration) -> Response {
    let detail = format!(
        "No answer within {} ms. The request may still be carried out; repeat it with the same key.",
        limit.as_millis()
    );
    Problem::new(Code::Unavailable, detail).retry_after(Duration::from_secs(1)).into_response()
}
