//! Request ids: unique, cheap, and never taken from the client.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::runtime::current_request::RequestId;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Generates the values of `x-request-id`: 32 random bits per source, then a 32-bit counter.
///
/// They serve to find a request in the log. They are not secret and grant nothing.
#[derive(Debug)]
pub(super) struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    /// Creates a source with a random prefix.
    pub(super) fn new() -> Self {
        Self { next: AtomicU64::new(getrandom::u64().unwrap_or_default() & !0xffff_ffff) }
    }

    /// Returns the next id.
    pub(super) fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }
}

/// Formats an id as a header value.
pub(super) fn header(RequestId(id): RequestId) -> HeaderValue {
    let mut text = [0_u8; 16];
    for (place, byte) in text.chunks_exact_mut(2).zip(id.get().to_be_bytes()) {
        place[0] = HEX[usize::from(byte >> 4)];
        place[1] = HEX[usize::from(byte & 15)];
    }
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text))
        .expect("hexadecimal digits are a valid header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_sixteen_digits() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        let shown = first.to_string();
        let first = header(first);
        assert_eq!(first.len(), 16);
        assert_eq!(first, shown, "the log shows the same text");
        assert!(first.to_str().unwrap().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
