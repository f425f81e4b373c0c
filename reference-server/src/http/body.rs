//! Request bodies: read on demand, with limits of size and time.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    HeaderMap,
    body::{Body as _, Incoming},
    header::{ACCEPT_ENCODING, HeaderValue},
};
use serde::de::DeserializeOwned;

use super::{Code, Problem, media_type, timeout::within};

/// A request whose body has not been read yet.
pub type Request = hyper::Request<Body>;

/// The limits of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) max_bytes: usize,
    pub(super) timeout: Duration,
}

/// The unread body of a request.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    limits: BodyLimits,
    peer: IpAddr,
}

impl Body {
    pub(super) fn new(incoming: Incoming, limits: BodyLimits, peer: IpAddr) -> Self {
        Self { incoming, limits, peer }
    }

    /// Returns the peer address of the connection, or the one that a trusted proxy gave in a PROXY
    /// header; headers of the request do not count.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Sets another size limit, for routes such as imports.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.limits.max_bytes = max_bytes;
        self
    }

    /// Returns whether the request has no body.
    pub fn is_empty(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Reads the whole body; `headers` are those of the request.
    ///
    /// # Errors
    /// 415 if it is compressed, 413 if it is too large, 408 after `http.body_timeout_ms`, 400 if the
    /// client disconnects.
    pub async fn bytes(self, headers: &HeaderMap) -> Result<Bytes, Problem> {
        if self.is_empty() {
            return Ok(Bytes::new());
        }
        if media_type::is_encoded(headers) {
            let problem =
                Problem::new(Code::UnsupportedMediaType, "Send the body as it is, without content-encoding.");
            return Err(problem.with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
        }
        let BodyLimits { max_bytes, timeout } = self.limits;
        let too_large = || Problem::new(Code::TooLarge, format!("Send at most {max_bytes} bytes."));
        // Check the announced length before reading, and before hyper sends `100 Continue`.
        if self.incoming.size_hint().lower() > max_bytes as u64 {
            return Err(too_large());
        }
        match within(timeout, Limited::new(self.incoming, max_bytes).collect()).await {
            Some(Ok(body)) => Ok(body.to_bytes()),
            Some(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Some(Err(_)) => Err(Problem::invalid("The body is incomplete.")),
            None => Err(Problem::new(
                Code::Timeout,
                format!("Send the whole body within {} ms.", timeout.as_millis()),
            )),
        }
    }

    /// Reads the whole body as JSON; `headers` are those of the request.
    ///
    /// Body types use `#[serde(deny_unknown_fields)]`; serde itself rejects repeated fields.
    ///
    /// # Errors
    /// As [`Body::bytes`]; 415 if it is not JSON; 400, with `field` if known, if it is invalid.
    pub async fn json<T: DeserializeOwned>(self, headers: &HeaderMap) -> Result<T, Problem> {
        if !media_type::is_json(headers) {
            let detail = "Send JSON in UTF-8 with content-type: application/json.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        parse_json(&self.bytes(headers).await?)
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde also deserializes structs from arrays, but every body of the contract is an object.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("The body is invalid: send a JSON object."));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("The body is invalid: {error}.");
        match field_of::<T>(bytes) {
            Some(field) => Problem::invalid_field(&field, detail),
            None => Problem::invalid(detail),
        }
    })
}

/// Finds the field that makes a body invalid, such as `price.amount`. Parses the body again,
/// because tracking the path would slow down every valid body.
fn field_of<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    let path = error.path().to_string();
    let cause = error.into_inner();
    // A syntax error is not the fault of a field.
    if !cause.is_data() {
        return None;
    }
    let inside = Some(path).filter(|path| path != "." && !path.contains('?'));
    let message = cause.to_string();
    // These messages name a field of the object at the path. The path may already end with it.
    match (inside, named(&message)) {
        (Some(path), Some(field)) if path != field && !path.ends_with(&format!(".{field}")) => {
            Some(format!("{path}.{field}"))
        }
        (inside, field) => inside.or_else(|| field.map(ToOwned::to_owned)),
    }
}

/// Extracts the field name from serde's message.
fn named(message: &str) -> Option<&str> {
    ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split_once('`'))
        .map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "the tests only deserialize it")]
    struct Order {
        quantity: u32,
        gift: Option<Gift>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "the tests only deserialize it")]
    struct Gift {
        count: u32,
    }

    #[test]
    fn an_invalid_body_names_the_field() {
        for (body, field) in [
            ("{}", Some("quantity")),
            (r#"{"quantity":1,"price":2}"#, Some("price")),
            (r#"{"quantity":1,"quantity":2}"#, Some("quantity")),
            (r#"{"quantity":-1}"#, Some("quantity")),
            (r#"{"quantity":"1"}"#, Some("quantity")),
            (r#"{"quantity":1,"price":{}}"#, Some("price")),
            (r#"{"quantity":1,"gift":{"count":"x"}}"#, Some("gift.count")),
            (r#"{"quantity":1,"gift":{}}"#, Some("gift.count")),
            (r#"{"quantity":1,"gift":{"count":1,"colour":1}}"#, Some("gift.colour")),
            (r#"{"quantity":1"#, None),
            (r#"{"quantity":1} x"#, None),
            ("[1]", None),
            ("", None),
        ] {
            let problem = parse_json::<Order>(body.as_bytes()).unwrap_err();
            let (_, _, document) = problem.into_parts();
            let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document.get("field").and_then(|field| field.as_str()), field, "{body}");
        }
    }
}
