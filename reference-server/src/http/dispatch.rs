//! What every request has in common, around the handler: limits of the head, time, panics, request id.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use hyper::{body::Incoming, header::HeaderName};

use super::{Body, Code, Handler, Problem, Response, body::BodyLimits, request_id::RequestIds};
use crate::config::HttpConfig;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One worker's way to the handler. Each worker has its own, so that counting references is not shared between cores.
#[derive(Debug)]
pub(super) struct Dispatch<H> {
    handler: Arc<H>,
    ids: RequestIds,
    body: BodyLimits,
    head_fields: usize,
    timeout: Duration,
}

impl<H: Handler> Dispatch<H> {
    pub(super) fn new(handler: Arc<H>, config: &HttpConfig) -> Self {
        Self {
            handler,
            ids: RequestIds::new(),
            body: BodyLimits { max_bytes: config.body_bytes, timeout: config.body_timeout() },
            head_fields: config.head_fields,
            timeout: config.request_timeout(),
        }
    }

    /// Answers one request, whatever the handler does.
    pub(super) async fn answer(&self, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
        let mut response = if request.headers().len() > self.head_fields {
            head_too_large(self.head_fields)
        } else {
            let request = request.map(|incoming| Body::new(incoming, self.body));
            let work = AssertUnwindSafe(async { self.handler.handle(request).await }).catch_unwind();
            match within(self.timeout, work).await {
                Some(Ok(response)) => response,
                Some(Err(_)) => internal(),
                None => too_slow(self.timeout),
            }
        };
        response.headers_mut().insert(X_REQUEST_ID, self.ids.next());
        Ok(response)
    }
}

/// The output of `future`, or `None` once it has taken longer than `limit`.
///
/// A future that is ready at once costs no timer: most answers on the hot path are.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => Some(output),
        Poll::Pending => tokio::time::timeout(limit, future).await.ok(),
    }
}

#[cold]
fn head_too_large(fields: usize) -> Response {
    let mut response =
        Problem::new(Code::HeadTooLarge, format!("Send at most {fields} header fields.")).into_response();
    response
        .headers_mut()
        .insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("close"));
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
