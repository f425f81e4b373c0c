//! Media types and content codings of requests.

use hyper::{
    HeaderMap,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use mediatype::{MediaType, MediaTypeList, ReadParams as _};

use super::document::thousandths;

/// Returns whether the body is declared as JSON in UTF-8. Parameters other than `charset` are
/// ignored, as RFC 9110 wants of parameters that a recipient does not know.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    // Nearly every request has exactly this.
    if text == "application/json" {
        return true;
    }
    MediaType::parse(text.trim()).is_ok_and(|media_type| {
        let charsets = media_type.params().filter(|(name, _)| name.as_str().eq_ignore_ascii_case("charset"));
        media_type.essence().to_string().eq_ignore_ascii_case("application/json")
            && charsets.map(|(_, charset)| charset).all(|charset| is_utf8(&charset.unquoted_str()))
    })
}

/// Compares letters and digits only: senders write `UTF-8`, `utf8`, `utf_8`.
fn is_utf8(charset: &str) -> bool {
    let spelled = charset.bytes().filter(u8::is_ascii_alphanumeric);
    spelled.map(|byte| byte.to_ascii_lowercase()).eq(*b"utf8")
}

/// Returns whether the body is compressed or otherwise encoded.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Returns the weight that `Accept` gives to a media type, in thousandths; 0 means not acceptable,
/// and without the field everything weighs 1000. The most specific range counts (RFC 9110 §12.5.1);
/// its parameters, such as a version, do not.
pub fn accepted_weight(headers: &HeaderMap, media_type: &str) -> u16 {
    if !headers.contains_key(ACCEPT) {
        return 1000;
    }
    let (whole_type, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let (mut best, mut weight) = (0, 0);
    for text in headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        for range in MediaTypeList::new(text).filter_map(Result::ok) {
            let essence = range.essence().to_string().to_ascii_lowercase();
            let rank = match essence.split_once('/') {
                _ if essence == media_type => 3,
                Some((group, "*")) if group == whole_type => 2,
                Some(("*", "*")) => 1,
                _ => continue,
            };
            let q = range.params().find(|(name, _)| name.as_str().eq_ignore_ascii_case("q"));
            let q = q.map_or(1000, |(_, q)| thousandths(&q.unquoted_str()));
            if rank > best || (rank == best && q > weight) {
                (best, weight) = (rank, q);
            }
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn json_is_recognized_by_its_content_type() {
        for good in [
            "application/json",
            "Application/JSON; charset=\"UTF-8\"",
            "application/json;charset=utf8",
            "application/json ; Charset=UTF_8",
            "application/json; charset=utf-8; charset=UTF-8",
            "application/json; version=1",
            "application/json; profile=\"a;b, charset=latin1\"; charset=utf-8",
            "application/json;odata=verbose;IEEE754Compatible=true",
            "application/json;",
        ] {
            assert!(is_json(&headers(CONTENT_TYPE, &[good])), "{good}");
        }
        for bad in [
            "application/json; charset=latin1",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=latin1",
            "application/json; charset=",
            "application/json charset=utf-8",
            "application/problem+json",
            "application/jsonp",
            "text/plain",
            "json",
            "",
        ] {
            assert!(!is_json(&headers(CONTENT_TYPE, &[bad])), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
        assert!(!is_json(&headers(CONTENT_TYPE, &["application/json", "application/json"])));
    }

    #[test]
    fn codings_other_than_identity_are_noticed() {
        for plain in [&[][..], &[""], &["identity"], &["Identity, identity", ""]] {
            assert!(!is_encoded(&headers(CONTENT_ENCODING, plain)), "{plain:?}");
        }
        for encoded in [&["gzip"][..], &["identity, br"], &["identity", "deflate"], &["aes128gcm"]] {
            assert!(is_encoded(&headers(CONTENT_ENCODING, encoded)), "{encoded:?}");
        }
    }

    #[test]
    fn the_most_specific_range_gives_the_weight() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, open, plain) in [
            (&[][..], 1000, 1000),
            (&["*/*"], 1000, 1000),
            (&["text/plain"], 0, 1000),
            (&["TEXT/Plain; charset=utf-8"], 0, 1000),
            (&["text/*;q=0.5, application/openmetrics-text; q=0.1"], 100, 500),
            (&["text/plain;q=0, */*;q=0.5"], 500, 0),
            (&["text/html", "*/*;q=0.8"], 800, 800),
            (&["a/b;c=\"text/plain, */*\""], 0, 0),
            (&["text, text/plain"], 0, 1000),
            (&[prometheus], 600, 400),
            (&[""], 0, 0),
        ] {
            let headers = headers(ACCEPT, accept);
            let weight = |media_type| accepted_weight(&headers, media_type);
            assert_eq!(
                (weight("application/openmetrics-text"), weight("text/plain")),
                (open, plain),
                "{accept:?}"
            );
        }
    }
}
