//! Signatures of payment callbacks: `t=<unix s>,v1=<hex HMAC-SHA256(secret, "<t>.<raw body>")>`.

use std::{fmt::Write as _, time::Duration};

use flashsale_core::domain::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{auth::keyring::Ring, config::Secret};

/// The header that carries a signature.
pub const HEADER: &str = "flashsale-signature";

/// Maximum difference between a signature's timestamp and the current time.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Why a callback's signature is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not of the form `t=…,v1=…`.
    #[error("send the header flashsale-signature as t=<unix seconds>,v1=<64 hexadecimal digits>")]
    Malformed,
    /// The timestamp is too far in the past or the future.
    #[error("the signature's timestamp is more than 300 s off: check the clock and sign again")]
    OutOfTime,
    /// The signature belongs to another secret or another body.
    #[error("the signature does not match the body and the secret")]
    Mismatch,
}

/// Signs `body` with timestamp `at`.
pub fn sign(secret: &Secret, at: Timestamp, body: &[u8]) -> String {
    let seconds = at.as_millis() / 1_000;
    let mut text = format!("t={seconds},v1=");
    for byte in mac(secret, seconds, body).finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// Verifies a body's signature against each secret of `ring`, in constant time.
///
/// # Errors
/// See [`SignatureError`].
pub fn verify(ring: &Ring, header: &str, body: &[u8], now: Timestamp) -> Result<(), SignatureError> {
    let (seconds, claimed) = parse(header).ok_or(SignatureError::Malformed)?;
    let then = Timestamp::from_millis(seconds.saturating_mul(1_000));
    // The signed time is truncated to seconds, so allow 1 s more for past timestamps.
    if now.since(then) >= TOLERANCE + Duration::from_secs(1) || then.since(now) > TOLERANCE {
        return Err(SignatureError::OutOfTime);
    }
    let signed = |secret| mac(secret, seconds, body).verify_slice(&claimed).is_ok();
    if ring.iter().any(signed) { Ok(()) } else { Err(SignatureError::Mismatch) }
}

fn mac(secret: &Secret, seconds: u64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("HMAC accepts keys of any length");
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// Parses time and MAC. Unknown pairs are ignored, so that later versions can be sent beside `v1`.
fn parse(header: &str) -> Option<(u64, [u8; 32])> {
    let (mut seconds, mut mac) = (None, None);
    for pair in header.split(',') {
        match pair.split_once('=')? {
            ("t", value) if seconds.is_none() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                seconds = Some(value.parse().ok()?);
            }
            ("v1", value) if mac.is_none() => mac = Some(*blake3::Hash::from_hex(value).ok()?.as_bytes()),
            ("t" | "v1", _) => return None,
            _ => {}
        }
    }
    Some((seconds?, mac?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000 + 999)
    }

    #[test]
    fn a_signature_is_valid_only_for_its_body_secret_and_time() {
        let ring = Ring::new(Secret::new(*b"a secret of the tests"), []);
        let signature = sign(ring.signing(), at(1_000), b"{}");
        assert_eq!(verify(&ring, &signature, b"{}", at(1_000)), Ok(()));
        assert_eq!(verify(&ring, &signature, b"{}", at(1_300)), Ok(()));
        assert_eq!(verify(&ring, &signature, b"{}", at(700)), Ok(()));
        assert_eq!(verify(&ring, &signature, b"{}", at(1_302)), Err(SignatureError::OutOfTime));
        assert_eq!(verify(&ring, &signature, b"{}", at(698)), Err(SignatureError::OutOfTime));
        assert_eq!(verify(&ring, &signature, b"{ }", at(1_000)), Err(SignatureError::Mismatch));
        let other = Ring::new(Secret::new(*b"another of the tests"), []);
        assert_eq!(verify(&other, &signature, b"{}", at(1_000)), Err(SignatureError::Mismatch));
        let moved = signature.replace("t=1000", "t=1001");
        assert_eq!(verify(&ring, &moved, b"{}", at(1_000)), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_known_signature() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of the tests'
        let ring = Ring::new(Secret::new(*b"a secret of the tests"), []);
        let signature = sign(ring.signing(), at(1_700_000_000), br#"{"a":1}"#);
        assert_eq!(signature, KNOWN);
    }

    const KNOWN: &str = "t=1700000000,v1=7b2992c1f41ac383ed7caf6d966ef2b7b897d4ad70fa29241394a7316e268e9e";

    #[test]
    fn other_forms_are_refused() {
        let ring = Ring::new(Secret::new(*b"a secret of the tests"), []);
        let good = sign(ring.signing(), at(1_000), b"{}");
        let unknown_pair = format!("{good},v2=x");
        assert_eq!(verify(&ring, &unknown_pair, b"{}", at(1_000)), Ok(()));
        for bad in ["", "t=1000", "v1=00", "t=,v1=", &good.replace("t=", "t=+"), &format!("{good},t=1000")] {
            assert_eq!(verify(&ring, bad, b"{}", at(1_000)), Err(SignatureError::Malformed), "{bad}");
        }
    }
}
