//! Static documents: rendered and compressed once, with ETags for revalidation.

mod encoding;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY},
};
use serde::Serialize;

pub use self::encoding::Encoding;
pub(crate) use self::encoding::thousandths;
use crate::http::{Prepared, Response};

/// The largest body that is not compressed, in bytes: it fits into one packet anyway.
const MAX_UNCOMPRESSED: usize = 1200;

/// A page or JSON document with a strong `ETag` per content coding.
#[derive(Clone, Debug)]
pub struct Document {
    plain: Variant,
    gzip: Option<Variant>,
    brotli: Option<Variant>,
}

/// A document in one content coding.
#[derive(Clone, Debug)]
struct Variant {
    etag: HeaderValue,
    whole: Prepared,
    unchanged: Prepared,
}

impl Document {
    /// Creates a document. `cache` is its `Cache-Control`; `headers` are added to every response.
    /// Compresses the body, which takes about 1 ms for 10 KiB.
    pub fn new(
        content_type: &'static str,
        cache: &'static str,
        headers: &[(HeaderName, HeaderValue)],
        body: impl Into<Bytes>,
    ) -> Self {
        let body = body.into();
        let digest = &blake3::hash(&body).to_hex()[..32];
        let variant = |encoding: Encoding, body: Bytes| {
            let etag = match encoding {
                Encoding::Identity => format!("\"{digest}\""),
                compressed => format!("\"{digest}-{}\"", compressed.extension()),
            };
            let etag = HeaderValue::from_maybe_shared(Bytes::from(etag))
                .unwrap_or_else(|_| unreachable!("quoted hexadecimal digits are a valid header value"));
            let make = |status, body: Bytes| {
                let mut prepared = Prepared::new(status, HeaderValue::from_static(content_type), body)
                    .with_header(ETAG, etag.clone())
                    .with_header(CACHE_CONTROL, HeaderValue::from_static(cache))
                    .with_header(VARY, HeaderValue::from_static("accept-encoding"));
                if encoding != Encoding::Identity {
                    prepared =
                        prepared.with_header(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
                }
                headers.iter().fold(prepared, |prepared, (name, value)| {
                    prepared.with_header(name.clone(), value.clone())
                })
            };
            Variant {
                whole: make(StatusCode::OK, body),
                unchanged: make(StatusCode::NOT_MODIFIED, Bytes::new()),
                etag,
            }
        };
        let compressed = |encoding: Encoding| {
            let encoded = (body.len() > MAX_UNCOMPRESSED).then(|| encoding.encode(&body).ok()).flatten();
            encoded
                .filter(|encoded| encoded.len() < body.len())
                .map(|encoded| variant(encoding, encoded.into()))
        };
        Self {
            gzip: compressed(Encoding::Gzip),
            brotli: compressed(Encoding::Brotli),
            plain: variant(Encoding::Identity, body.clone()),
        }
    }

    /// Creates a JSON document.
    ///
    /// # Errors
    /// If `value` cannot be serialized.
    pub fn json<T: Serialize>(cache: &'static str, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new("application/json", cache, &[], serde_json::to_vec(value)?))
    }

    /// Responds in the best accepted coding, or with 304 if the client has this version.
    pub fn respond(&self, headers: &HeaderMap) -> Response {
        let variant = self.variant(Encoding::of_request(headers)).unwrap_or(&self.plain);
        if variant.is_known(headers) { variant.unchanged.respond() } else { variant.whole.respond() }
    }

    /// Returns the body in a coding; `None` if it would not be smaller.
    pub fn body(&self, encoding: Encoding) -> Option<&Bytes> {
        self.variant(encoding).map(|variant| variant.whole.body())
    }

    fn variant(&self, encoding: Encoding) -> Option<&Variant> {
        match encoding {
            Encoding::Identity => Some(&self.plain),
            Encoding::Gzip => self.gzip.as_ref(),
            Encoding::Brotli => self.brotli.as_ref(),
        }
    }
}

impl Variant {
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
    use hyper::header::ACCEPT_ENCODING;

    use super::*;

    fn ask(document: &Document, pairs: &[(HeaderName, &str)]) -> Response {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        document.respond(&pairs.collect())
    }

    #[test]
    fn a_client_with_the_current_version_gets_no_body() {
        let document = Document::new("text/plain", "max-age=5", &[], "body");
        let first = ask(&document, &[]);
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.status(), StatusCode::OK);
        for tags in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let answer = ask(&document, &[(IF_NONE_MATCH, &tags)]);
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(answer.headers()[ETAG], etag);
            assert_eq!(answer.headers()[CACHE_CONTROL], "max-age=5");
            assert_eq!(answer.headers()[VARY], "accept-encoding");
        }
        assert_eq!(ask(&document, &[(IF_NONE_MATCH, "\"other\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn each_coding_has_its_own_etag() {
        let document = Document::new("text/plain", "max-age=5", &[], "body ".repeat(1000));
        let mut tags = std::collections::HashSet::new();
        for accepted in ["", "gzip", "br"] {
            let answer = ask(&document, &[(ACCEPT_ENCODING, accepted)]);
            let coding = answer.headers().get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap());
            assert_eq!(coding, accepted);
            let etag = answer.headers()[ETAG].to_str().unwrap().to_owned();
            for asked in ["", "gzip", "br"] {
                let again = ask(&document, &[(ACCEPT_ENCODING, asked), (IF_NONE_MATCH, &etag)]);
                let expected = if asked == accepted { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
                assert_eq!(again.status(), expected, "has {accepted:?}, asks for {asked:?}");
            }
            tags.insert(etag);
        }
        assert_eq!(tags.len(), 3);
    }

    #[test]
    fn small_bodies_are_not_compressed() {
        let document = Document::new("text/plain", "max-age=5", &[], "body");
        let answer = ask(&document, &[(ACCEPT_ENCODING, "br, gzip")]);
        assert!(!answer.headers().contains_key(CONTENT_ENCODING));
        assert!(document.body(Encoding::Brotli).is_none());
    }
}
