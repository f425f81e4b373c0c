//! Responses and their bodies.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;

use super::Code;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A response with a complete body.
pub type Response = hyper::Response<Whole>;

/// A complete response body. Its bytes are shared, so a prepared response is not copied.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    bytes: Full<Bytes>,
    code: Option<Code>,
}

impl Whole {
    /// Returns the code of the problem that the body describes, for metrics.
    pub fn code(&self) -> Option<Code> {
        self.code
    }
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes: Full::new(bytes), code: None }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

/// Builds a response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Whole::default());
    *response.status_mut() = status;
    response
}

/// Adds `Cache-Control: no-store`, for responses about a caller.
#[must_use]
pub fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

pub(super) fn with_body(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    // Capacity for what dispatch and the routes add: request id, cache control, and a few more.
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, content_type);
    let mut response = Response::new(Whole::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A response built once and sent many times: its body is shared, its headers are cheap to clone.
///
/// For what many clients get at the same time, such as "sold out", a page, or an activity's status.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    pub(super) code: Option<Code>,
}

impl Prepared {
    /// Prepares a response with `body`.
    pub fn new(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![(CONTENT_TYPE, content_type)], body: body.into(), code: None }
    }

    /// Prepares a response with `value` as JSON.
    ///
    /// # Errors
    /// If `value` cannot be serialized.
    pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(status, JSON, serde_json::to_vec(value)?))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Cache-Control: no-store`.
    #[must_use]
    pub fn no_store(self) -> Self {
        self.with_header(CACHE_CONTROL, NO_STORE)
    }

    /// Builds a response.
    pub fn respond(&self) -> Response {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 2);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let body = Whole { bytes: Full::new(self.body.clone()), code: self.code };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}
