//! Optimistic concurrency: `ETag` in responses, `If-Match` in requests.

use hyper::{
    HeaderMap, StatusCode,
    header::{ETAG, HeaderValue, IF_MATCH},
};
use serde::Serialize;

use crate::http::{Problem, Response, json, no_store};

/// A version that no value has; they start at 1.
const NEVER: u64 = 0;

/// Returns the version in `If-Match`, or `None` if any will do. A foreign tag matches nothing.
///
/// # Errors
/// 400 unless it is exactly one entity tag (RFC 9110, 8.8.3): a change is based on one version.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = || Problem::invalid_field("if-match", "Send exactly one ETag, as you received it, or *.");
    let text = value.to_str().map_err(|_| refused())?.trim();
    if values.next().is_some() || text.contains(',') {
        return Err(refused());
    }
    if text == "*" {
        return Ok(None);
    }
    // A weak tag never matches (RFC 9110, 13.1.1).
    let (is_weak, tag) = text.strip_prefix("W/").map_or((false, text), |tag| (true, tag));
    let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(refused)?;
    if !version.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        return Err(refused());
    }
    Ok(Some(version.parse().ok().filter(|_| !is_weak).unwrap_or(NEVER)))
}

/// Answers with a value and its version as `ETag`.
pub(super) fn versioned(status: StatusCode, version: u64, body: &impl Serialize) -> Response {
    let mut response = no_store(json(status, body));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strong_tag_is_a_version() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            if_match(&headers)
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["*"]).unwrap(), None);
        assert_eq!(read(&["\"7\""]).unwrap(), Some(7));
        for other in ["W/\"7\"", "\"x\"", "\"\""] {
            assert_eq!(read(&[other]).unwrap(), Some(NEVER), "{other}");
        }
        for none in ["7", "", "{}", "\"7", "\"a b\"", "\"a\"b\"", "\"", "w/\"7\""] {
            assert!(read(&[none]).is_err(), "{none}");
        }
        assert!(read(&["\"1\", \"2\""]).is_err());
        assert!(read(&["\"1\"", "\"2\""]).is_err());
    }
}
