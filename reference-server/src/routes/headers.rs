//! Request headers that the HTTP contract defines.

use std::time::Duration;

use flashsale_core::domain::{Key, SubjectId};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName},
};

use crate::http::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const RECEIPT: HeaderName = HeaderName::from_static("flashsale-receipt");
const DEVICE: HeaderName = HeaderName::from_static("flashsale-device");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const LONGEST: usize = 255;
/// The longest time that `Prefer: wait=n` holds an answer, in seconds.
const LONGEST_WAIT: u64 = 10;

/// Returns the token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Reads the idempotency key, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    Ok(visible(headers, &IDEMPOTENCY_KEY)?.map(Key::of_text))
}

/// Reads and hashes the device id, if there is one.
pub(super) fn device(headers: &HeaderMap) -> Result<Option<SubjectId>, Problem> {
    Ok(visible(headers, &DEVICE)?.map(|device| SubjectId::digest(device.as_bytes())))
}

/// Reads the receipt of an order, if there is one.
pub(super) fn receipt(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    visible(headers, &RECEIPT)
}

/// Reads `Prefer: wait=n`, capped at 10 s. Preferences that do not parse are ignored.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, seconds) = preference.trim().split_once('=')?;
        let seconds: u64 =
            seconds.trim().parse().ok().filter(|_| name.trim().eq_ignore_ascii_case("wait"))?;
        Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
    })
}

/// Returns the value of a header that occurs exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn visible<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    single(headers, name)
        .filter(|text| {
            (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map(Some)
        .ok_or_else(|| {
            Problem::invalid_field(
                name.as_str(),
                "Send this header once, with 1 to 255 visible ASCII characters.",
            )
        })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn keys_are_visible_ascii_and_sent_once() {
        let key = |pairs: &[(&'static str, &str)]| idempotency_key(&headers(pairs));
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&[("idempotency-key", "a")]).unwrap(), Some(Key::of_text("a")));
        assert!(key(&[("idempotency-key", &"k".repeat(255))]).is_ok());
        for bad in ["", "a b", &"k".repeat(256)] {
            assert!(key(&[("idempotency-key", bad)]).is_err(), "{bad:?}");
        }
        assert!(key(&[("idempotency-key", "a"), ("idempotency-key", "a")]).is_err());
    }

    #[test]
    fn the_other_headers() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
        let seconds = |text: &str| wait(&headers(&[("prefer", text)])).map(|span| span.as_secs());
        assert_eq!(seconds("respond-async, wait=3"), Some(3));
        assert_eq!(seconds("wait=99"), Some(10));
        assert_eq!(seconds("wait=x"), None);
    }
}
