//! Errors as problem details (RFC 9457) with a stable code.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Code, Prepared, Response};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal or failure as the client sees it. Log internal causes instead of including them.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Creates a problem; `detail` says what to do about this occurrence.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, detail: detail.into(), members: Map::new(), headers: Vec::new() }))
    }

    /// 400: the request is invalid, but not because of a single field.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// 400: `field`, as named in the contract, is invalid.
    pub fn invalid_field(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(detail).with("field", field)
    }

    /// 404: not found, or not visible to the caller.
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "Check the address. Resources of other users are also reported as not found.",
        )
    }

    /// 401 with the expected scheme, `Bearer`.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthorized, detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 405 with the allowed methods, such as `GET, HEAD`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(Code::MethodNotAllowed, format!("Use one of: {allow}."))
            .with_header(ALLOW, HeaderValue::from_static(allow))
    }

    /// Adds a member to the document. A value that cannot be serialized is omitted.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.0.members.insert(member.to_owned(), value);
        }
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds `Retry-After` in seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after(self, span: Duration) -> Self {
        let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Converts to a response: `application/problem+json` with `no-store`.
    pub fn into_response(self) -> Response {
        self.prepared().respond()
    }

    /// Converts to a response that can be sent many times.
    pub fn prepared(self) -> Prepared {
        let code = Some(self.code());
        let (status, headers, body) = self.into_parts();
        Prepared { status, headers, body, code }
    }

    pub(super) fn into_parts(self) -> (StatusCode, Vec<(HeaderName, HeaderValue)>, Bytes) {
        let Inner { code, detail, members, mut headers } = *self.0;
        let document = Document {
            kind: code.kind(),
            title: code.title(),
            status: code.status().as_u16(),
            code: code.as_str(),
            detail: &detail,
            members,
        };
        let body = serde_json::to_vec(&document).expect("strings, numbers and JSON values are JSON");
        headers.push((CONTENT_TYPE, PROBLEM_JSON));
        headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
        (code.status(), headers, Bytes::from(body))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl From<flashsale_core::domain::Invalid> for Problem {
    fn from(invalid: flashsale_core::domain::Invalid) -> Self {
        Self::invalid_field(invalid.field, invalid.reason)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_document_with_its_members() {
        let problem = Problem::new(Code::SoldOut, "Units may come back.").with("available", 0);
        let (status, _, body) = problem.into_parts();
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            serde_json::json!({
                "type": "urn:problem-type:flashsale:sold_out", "title": "Sold out", "status": 409,
                "code": "sold_out", "detail": "Units may come back.", "available": 0
            })
        );
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (90_000, "90")] {
            let response =
                Problem::new(Code::Busy, "").retry_after(Duration::from_millis(millis)).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
    }

    #[test]
    fn codes_are_unique() {
        let words: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
    }
}
