//! Demo sessions: signed tokens with a self-declared identity. The server stores no session.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::{
    admission::Account,
    domain::{Name, Timestamp, UserId},
};
use subtle::ConstantTimeEq as _;

use super::{caller::Caller, keyring::Ring};

const VERSION: u8 = 1;
const MAC: usize = 32;
const CONTEXT: &str = "flashsale server v1: MAC of a demo session";
/// The longest token in bytes: a name has at most 120 characters of at most 4 bytes.
const LONGEST: usize = 1 + 8 + 8 + 480 + MAC;

/// Issues and verifies demo session tokens.
pub struct Sessions {
    /// The first signs, all are accepted.
    keys: Vec<[u8; 32]>,
    life: Duration,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Creates sessions that last `life`, keyed by `ring`.
    pub fn new(ring: &Ring, life: Duration) -> Self {
        Self { keys: ring.iter().map(|secret| blake3::derive_key(CONTEXT, secret.expose())).collect(), life }
    }

    /// Issues a token for a caller, and returns it with its expiry.
    pub fn issue(&self, caller: &Caller, now: Timestamp) -> (String, Timestamp) {
        let expires_at = now.after(self.life);
        let mut bytes = vec![VERSION];
        bytes.extend(caller.user.value().to_be_bytes());
        bytes.extend(expires_at.as_millis().to_be_bytes());
        bytes.extend(caller.name.as_bytes());
        let mac = blake3::keyed_hash(&self.keys[0], &bytes);
        bytes.extend(mac.as_bytes());
        (URL_SAFE_NO_PAD.encode(bytes), expires_at)
    }

    /// Returns the caller of a token; `None` if it is not authentic or has expired.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Caller> {
        if token.len() > LONGEST.div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, mac) = bytes.split_last_chunk::<MAC>()?;
        let signed = |key| bool::from(blake3::keyed_hash(key, body).as_bytes().ct_eq(mac));
        if !self.keys.iter().any(signed) {
            return None;
        }
        let ([version], rest) = body.split_first_chunk::<1>()?;
        let (user, rest) = rest.split_first_chunk::<8>()?;
        let (expires_at, name) = rest.split_first_chunk::<8>()?;
        let expires_at = Timestamp::from_millis(u64::from_be_bytes(*expires_at));
        if *version != VERSION || now >= expires_at {
            return None;
        }
        let user = UserId::new(u64::from_be_bytes(*user))?;
        let name = Name::new(std::str::from_utf8(name).ok()?).ok()?;
        Some(Caller { user, name, account: Account::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn ring(secret: &[u8]) -> Ring {
        Ring::new(Secret::new(secret), [])
    }

    #[test]
    fn a_token_is_valid_until_it_expires_and_only_with_its_key() {
        let sessions = Sessions::new(&ring(b"one secret of the tests"), Duration::from_secs(60));
        let others = Sessions::new(&ring(b"another one of the tests"), Duration::from_secs(60));
        let caller = Caller {
            user: UserId::new(7).unwrap(),
            name: Name::new("韩梅梅").unwrap(),
            account: Account::default(),
        };
        let now = Timestamp::from_millis(1_000);
        let (token, expires_at) = sessions.issue(&caller, now);
        assert_eq!(sessions.verify(&token, now), Some(caller));
        assert_eq!(sessions.verify(&token, expires_at), None);
        assert_eq!(others.verify(&token, now), None);
        for position in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.verify(str::from_utf8(&altered).unwrap(), now), None, "{position}");
        }
        assert_eq!(sessions.verify("", now), None);
    }
}
