//! CORS, for pages that are served from another origin.

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderName,
        HeaderValue, ORIGIN, VARY,
    },
};

use crate::http::{Response, empty};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const ANSWER_HEADERS: HeaderValue =
    HeaderValue::from_static("etag, location, retry-after, ratelimit, ratelimit-policy, x-request-id");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Returns the request's origin if the configuration allows it.
pub(super) fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Lists the headers that pages of an allowed origin may send.
pub(super) fn request_headers(names: &[HeaderName]) -> HeaderValue {
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::try_from(names.join(", ")).expect("names of headers are visible ASCII")
}

/// Answers a CORS preflight request, which may announce `allowed` headers; returns `None` for any
/// other request.
pub(super) fn preflight(method: &Method, headers: &HeaderMap, allowed: &HeaderValue) -> Option<Response> {
    let is_preflight = *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    is_preflight.then(|| {
        let mut response = empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        response
    })
}

/// Adds `Vary: origin`, and lets the pages of an allowed `origin` read the response.
pub(super) fn grant(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    }
}
