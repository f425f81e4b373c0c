//! Demo sessions: signed tokens with a self-declared identity. The server stores no session.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::{
    admission::Account,
    domain::{Identity, Issuer, Name, Timestamp, UserId},
};
use subtle::ConstantTimeEq as _;

use super::{caller::Caller, keyring::Ring};

/// A token of a user whom the provider numbers: number (8 bytes), expiry (8), name.
const NUMBERED: u8 = 1;
/// A token of any other user: expiry (8 bytes), length of the identity (1), identity, name.
const NAMED: u8 = 2;
const MAC: usize = 32;
const CONTEXT: &str = "flashsale server v1: MAC of a demo session";
/// The longest token in bytes: a name has at most 120 characters of at most 4 bytes.
const LONGEST: usize = 1 + 8 + 1 + Identity::MAX_BYTES + 480 + MAC;

/// Issues and verifies demo session tokens.
pub struct Sessions {
    /// The first signs, all are accepted.
    keys: Vec<[u8; 32]>,
    life: Duration,
    issuer: Issuer,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Creates sessions that last `life`, keyed by `ring`; `issuer` numbers the users.
    pub fn new(ring: &Ring, life: Duration, issuer: Issuer) -> Self {
        let keys = ring.iter().map(|secret| blake3::derive_key(CONTEXT, secret.expose())).collect();
        Self { keys, life, issuer }
    }

    /// Issues a token for the user with this identity, and returns it with its expiry.
    ///
    /// # Panics
    /// Never: an identity has at most 255 bytes.
    pub fn issue(&self, identity: &Identity, name: &Name, now: Timestamp) -> (String, Timestamp) {
        let expires_at = now.after(self.life);
        let expiry = expires_at.as_millis().to_be_bytes();
        let mut bytes = Vec::with_capacity(LONGEST);
        match identity.number() {
            Some(user) => {
                bytes.push(NUMBERED);
                bytes.extend(user.value().to_be_bytes());
                bytes.extend(expiry);
            }
            None => {
                bytes.push(NAMED);
                bytes.extend(expiry);
                bytes.push(u8::try_from(identity.len()).expect("an identity has at most 255 bytes"));
                bytes.extend(identity.as_bytes());
            }
        }
        bytes.extend(name.as_bytes());
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
        let (identity, expires_at, name) = match *version {
            NUMBERED => {
                let (user, rest) = rest.split_first_chunk::<8>()?;
                let (expires_at, name) = rest.split_first_chunk::<8>()?;
                (Identity::of_number(UserId::new(u64::from_be_bytes(*user))?)?, expires_at, name)
            }
            NAMED => {
                let (expires_at, rest) = rest.split_first_chunk::<8>()?;
                let ([length], rest) = rest.split_first_chunk::<1>()?;
                let (identity, name) = rest.split_at_checked((*length).into())?;
                (Identity::new(std::str::from_utf8(identity).ok()?).ok()?, expires_at, name)
            }
            _ => return None,
        };
        if now >= Timestamp::from_millis(u64::from_be_bytes(*expires_at)) {
            return None;
        }
        let user = self.issuer.user(&identity);
        let name = Name::new(std::str::from_utf8(name).ok()?).ok()?;
        Some(Caller { user, identity, name, account: Account::default() })
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::domain::IdentityKey;

    use super::*;
    use crate::config::Secret;

    fn ring(secret: &[u8]) -> Ring {
        Ring::new(Secret::new(secret), [])
    }

    #[test]
    fn a_token_is_valid_until_it_expires_and_only_with_its_key() {
        let issuer = || Issuer::new(&IdentityKey::new([7; 32]), "");
        let sessions = |secret: &[u8]| Sessions::new(&ring(secret), Duration::from_secs(60), issuer());
        let (ours, others) = (sessions(b"one secret of the tests"), sessions(b"another one of the tests"));
        let name = Name::new("韩梅梅").unwrap();
        let now = Timestamp::from_millis(1_000);
        for identity in ["7", "auth0|7", &"a".repeat(255)].map(|text| Identity::new(text).unwrap()) {
            let (token, expires_at) = ours.issue(&identity, &name, now);
            let (user, account) = (issuer().user(&identity), Account::default());
            let caller = Caller { user, identity, name: name.clone(), account };
            assert_eq!(ours.verify(&token, now), Some(caller));
            assert_eq!(ours.verify(&token, expires_at), None);
            assert_eq!(others.verify(&token, now), None);
            for position in 0..token.len() {
                let mut altered = token.clone().into_bytes();
                altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
                assert_eq!(ours.verify(str::from_utf8(&altered).unwrap(), now), None, "{position}");
            }
        }
        assert_eq!(ours.verify("", now), None);
    }
}
