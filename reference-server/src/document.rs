//! Documents that are made once and given to everybody, with a version that clients can compare.

use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH},
};
use serde::Serialize;

use crate::http::{Prepared, Response};

/// A page or JSON document with a strong `ETag`.
#[derive(Clone, Debug)]
pub struct Document {
    etag: HeaderValue,
    whole: Prepared,
    unchanged: Prepared,
}

impl Document {
    /// Keeps `body`, which caches may keep as `cache` says; `headers` are added to every answer.
    pub fn new(
        content_type: &'static str,
        cache: &'static str,
        headers: &[(HeaderName, HeaderValue)],
        body: impl Into<Vec<u8>>,
    ) -> Self {
        let body = body.into();
        let digest = blake3::hash(&body).to_hex();
        let etag = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("\"{}\"", &digest[..32])))
            .unwrap_or_else(|_| unreachable!("hexadecimal digits in quotes are a header value"));
        let make = |status, body: Vec<u8>| {
            let prepared = Prepared::new(status, HeaderValue::from_static(content_type), body)
                .with_header(ETAG, etag.clone())
                .with_header(CACHE_CONTROL, HeaderValue::from_static(cache));
            headers
                .iter()
                .fold(prepared, |prepared, (name, value)| prepared.with_header(name.clone(), value.clone()))
        };
        Self {
            whole: make(StatusCode::OK, body),
            unchanged: make(StatusCode::NOT_MODIFIED, Vec::new()),
            etag,
        }
    }

    /// Keeps `value` as JSON.
    ///
    /// # Errors
    /// If `value` cannot be written as JSON.
    pub fn json<T: Serialize>(cache: &'static str, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new("application/json", cache, &[], serde_json::to_vec(value)?))
    }

    /// The document, or 304 if the request's headers say that the client has it.
    pub fn respond(&self, headers: &HeaderMap) -> Response {
        if self.is_known(headers) { self.unchanged.respond() } else { self.whole.respond() }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|tag| {
                let tag = tag.trim_ascii();
                tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_it_gets_no_body() {
        let document = Document::new("text/plain", "max-age=5", &[], "body");
        let ask = |tags: &str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap())]);
            document.respond(&headers)
        };
        let first = document.respond(&HeaderMap::new());
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.status(), StatusCode::OK);
        for tags in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let answer = ask(&tags);
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(answer.headers()[ETAG], etag);
            assert_eq!(answer.headers()[CACHE_CONTROL], "max-age=5");
        }
        assert_eq!(ask("\"other\"").status(), StatusCode::OK);
    }
}
