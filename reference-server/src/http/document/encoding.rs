//! Content codings: negotiation and compression.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use flate2::{Compression, write::GzEncoder};
use hyper::{HeaderMap, header::ACCEPT_ENCODING};

/// Pages are compressed once and read by thousands, but thousands of pages must be published within
/// seconds. Higher qualities take many times as long for a few percent.
const BROTLI_QUALITY: i32 = 9;
/// Base-2 logarithm of the window size: 4 MiB, the encoder's default.
const BROTLI_WINDOW: i32 = 22;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No compression.
    Identity,
    /// gzip, RFC 1952.
    Gzip,
    /// Brotli, RFC 7932.
    Brotli,
}

impl Encoding {
    /// The compressed codings, the preferred one first.
    pub const COMPRESSED: [Self; 2] = [Self::Brotli, Self::Gzip];

    /// Returns the value of `Content-Encoding`; `identity` is never sent.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    /// Returns the extension of precompressed files, as web servers expect it.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => "gz",
            Self::Brotli => "br",
        }
    }

    /// Selects the accepted coding with the highest weight, then the smallest; else `Identity`.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut weights = [None; 2];
        let mut any = 0;
        for value in headers.get_all(ACCEPT_ENCODING) {
            let Ok(value) = value.to_str() else { continue };
            for (coding, weight) in value.split(',').map(weighted) {
                if coding.eq_ignore_ascii_case("br") {
                    weights[0] = Some(weight);
                } else if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                    weights[1] = Some(weight);
                } else if coding == "*" {
                    any = weight;
                }
            }
        }
        let [brotli, gzip] = weights.map(|weight| weight.unwrap_or(any));
        match (brotli, gzip) {
            (0, 0) => Self::Identity,
            _ if brotli >= gzip => Self::Brotli,
            _ => Self::Gzip,
        }
    }

    /// Encodes `body`.
    ///
    /// # Errors
    /// If the encoder fails; writing to memory does not.
    pub fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Brotli => {
                let mut encoded = Vec::new();
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW,
                    size_hint: body.len(),
                    ..BrotliEncoderParams::default()
                };
                brotli::BrotliCompress(&mut io::Cursor::new(body), &mut encoded, &params)?;
                Ok(encoded)
            }
        }
    }
}

/// Parses a coding and its weight in thousandths. An invalid weight counts as 0.
fn weighted(item: &str) -> (&str, u16) {
    let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
    let weight = match parameters.trim().split_once('=') {
        None => 1000,
        Some((name, weight)) if name.trim_end().eq_ignore_ascii_case("q") => thousandths(weight.trim()),
        Some(_) => 0,
    };
    (coding.trim(), weight)
}

/// Parses a weight (RFC 9110 §12.4.2), 0 to 1 with up to three decimals; 0 if invalid.
pub(crate) fn thousandths(weight: &str) -> u16 {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if digits && part.bytes().all(|byte| byte == b'0') => 1000,
        "0" if digits => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_best_coding_that_a_client_takes() {
        let table = [
            (None, Encoding::Identity),
            (Some(""), Encoding::Identity),
            (Some("gzip, deflate, br, zstd"), Encoding::Brotli),
            (Some("gzip, deflate"), Encoding::Gzip),
            (Some("GZIP;q=1.0"), Encoding::Gzip),
            (Some("br;q=0.5, gzip"), Encoding::Gzip),
            (Some("br;q=0.5 , gzip ; q=0.499"), Encoding::Brotli),
            (Some("br;q=0, gzip;q=0.000"), Encoding::Identity),
            (Some("*"), Encoding::Brotli),
            (Some("br;q=0, *;q=0.1"), Encoding::Gzip),
            (Some("identity;q=0"), Encoding::Identity),
            (Some("zstd, compress"), Encoding::Identity),
            (Some("br;q=2"), Encoding::Identity),
            (Some("br;level=4"), Encoding::Identity),
            (Some(",,;q=,br;q=0.0001"), Encoding::Identity),
        ];
        for (accepted, expected) in table {
            let pair = accepted.map(|accepted| (ACCEPT_ENCODING, HeaderValue::from_static(accepted)));
            assert_eq!(Encoding::of_request(&HeaderMap::from_iter(pair)), expected, "{accepted:?}");
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        let body = "抢购 flash sale ".repeat(999);
        let [brotli, gzip] = Encoding::COMPRESSED.map(|encoding| encoding.encode(body.as_bytes()).unwrap());
        let (mut from_brotli, mut from_gzip) = (String::new(), String::new());
        brotli::Decompressor::new(&brotli[..], 4096).read_to_string(&mut from_brotli).unwrap();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_string(&mut from_gzip).unwrap();
        assert!(from_brotli == body && from_gzip == body);
        assert!(brotli.len() < gzip.len() && gzip.len() < body.len() / 20);
    }
}
