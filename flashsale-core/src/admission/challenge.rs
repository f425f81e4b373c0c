//! Challenges as signed texts; issuing one stores nothing.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use crate::domain::{ActivityId, Invalid, SkuId, Timestamp, UserId};

/// The version of the text; increase it when fields change.
const VERSION: u8 = 1;
const SEAL_CONTEXT: &str = "flashsale challenge v1: MAC of an issued challenge";
const SECRET_CONTEXT: &str = "flashsale challenge v1: what its solution is made of";
const MAC: usize = 16;
/// Version, key id, exercise, activity, SKU, user, expiry, seed.
const BODY: usize = 1 + 4 + 1 + 4 * 8 + 16;
const LENGTH: usize = BODY + MAC;

/// The kind of task in a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exercise {
    /// Nothing.
    None,
    /// A proof of work.
    ProofOfWork,
    /// A quiz.
    Quiz,
}

impl Exercise {
    /// Returns the name in the HTTP contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ProofOfWork => "proof_of_work",
            Self::Quiz => "quiz",
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::None, Self::ProofOfWork, Self::Quiz].into_iter().find(|exercise| *exercise as u8 == byte)
    }
}

/// A challenge, bound to one user and one offer.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The activity of the offer.
    pub activity: ActivityId,
    /// The SKU of the offer.
    pub sku: SkuId,
    /// The user who must solve it.
    pub user: UserId,
    /// The kind of task.
    pub exercise: Exercise,
    /// The first moment at which solutions are no longer accepted.
    pub expires_at: Timestamp,
    /// Its random number, which is public.
    pub seed: u128,
    secret: [u8; 32],
}

impl Challenge {
    /// Returns bytes that only holders of the key can compute; quizzes derive from them.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("user", &self.user)
            .field("exercise", &self.exercise)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A challenge ready to be sent to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedChallenge {
    /// The text to return with the solution: 94 letters, digits, `-` and `_`.
    pub text: String,
    /// The challenge.
    pub challenge: Challenge,
}

/// The reason why a challenge was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// Not a challenge, or one of an unknown version or key.
    #[error("this is not a challenge of this server; request a new one")]
    Unknown,
    /// The MAC does not match: the text was altered or forged.
    #[error("the challenge is not authentic; request a new one")]
    NotAuthentic,
    /// Issued to another user or for another offer.
    #[error("the challenge belongs to another user or offer; request your own")]
    NotYours,
    /// The challenge has expired.
    #[error("the challenge has expired; request a new one")]
    Expired,
}

/// The key that signs challenges, and all keys that are accepted. They rotate like
/// [`TicketKeys`](crate::admission::TicketKeys).
#[derive(Clone)]
pub struct ChallengeKeys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: u32,
    seal: [u8; 32],
    secret: [u8; 32],
}

impl fmt::Debug for ChallengeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChallengeKeys").field(&self.0.iter().map(|key| key.id).collect::<Vec<_>>()).finish()
    }
}

impl ChallengeKeys {
    /// Creates keys from ids and 32 secret random bytes each. The first signs; all are accepted.
    ///
    /// # Errors
    /// If there are no keys, two share an id, or one is all zero because nobody set it.
    pub fn new(keys: impl IntoIterator<Item = (u32, [u8; 32])>) -> Result<Self, Invalid> {
        let mut ring: Vec<Key> = Vec::new();
        for (id, bytes) in keys {
            if bytes == [0; 32] || ring.iter().any(|key| key.id == id) {
                let reason = format!("key {id}: give each key an id of its own and 32 random bytes");
                return Err(Invalid::new("challenge_keys", reason));
            }
            let (seal, secret) =
                (blake3::derive_key(SEAL_CONTEXT, &bytes), blake3::derive_key(SECRET_CONTEXT, &bytes));
            ring.push(Key { id, seal, secret });
        }
        if ring.is_empty() {
            return Err(Invalid::new("challenge_keys", "give at least one key"));
        }
        Ok(Self(ring))
    }

    /// Signs a challenge with a fresh seed.
    ///
    /// # Errors
    /// If the operating system provides no randomness.
    pub fn issue(
        &self,
        activity: ActivityId,
        sku: SkuId,
        user: UserId,
        exercise: Exercise,
        expires_at: Timestamp,
    ) -> Result<IssuedChallenge, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        let key = &self.0[0];
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend(key.id.to_be_bytes());
        bytes.push(exercise as u8);
        for number in [activity.value(), sku.value(), user.value(), expires_at.as_millis()] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(seed);
        let secret = key.secret(&bytes);
        bytes.extend(key.mac(&bytes));
        let seed = u128::from_be_bytes(seed);
        let challenge = Challenge { activity, sku, user, exercise, expires_at, seed, secret };
        Ok(IssuedChallenge { text: URL_SAFE_NO_PAD.encode(bytes), challenge })
    }

    /// Verifies a challenge that `user` returns for an offer.
    ///
    /// # Errors
    /// See [`ChallengeError`].
    pub fn verify(
        &self,
        text: &str,
        activity: ActivityId,
        sku: SkuId,
        user: UserId,
        now: Timestamp,
    ) -> Result<Challenge, ChallengeError> {
        let mut bytes = [0; LENGTH];
        // The buffer fits exactly one challenge, so a longer text fails early.
        if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(LENGTH) {
            return Err(ChallengeError::Unknown);
        }
        let (body, mac) = bytes.split_at(BODY);
        let number = |at: usize| body[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let key_id = body[1..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let key = self.0.iter().find(|key| key.id == key_id).filter(|_| body[0] == VERSION);
        let key = key.ok_or(ChallengeError::Unknown)?;
        if !bool::from(key.mac(body).ct_eq(mac)) {
            return Err(ChallengeError::NotAuthentic);
        }
        let exercise = Exercise::of(body[5]).ok_or(ChallengeError::Unknown)?;
        let expires_at = Timestamp::from_millis(number(30));
        if [number(6), number(14), number(22)] != [activity.value(), sku.value(), user.value()] {
            return Err(ChallengeError::NotYours);
        }
        if now >= expires_at {
            return Err(ChallengeError::Expired);
        }
        let seed = body[38..].first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        Ok(Challenge { activity, sku, user, exercise, expires_at, seed, secret: key.secret(body) })
    }
}

impl Key {
    /// All bodies have the same length, so the MAC input is unambiguous.
    fn mac(&self, body: &[u8]) -> [u8; MAC] {
        let mut mac = [0; MAC];
        mac.copy_from_slice(&blake3::keyed_hash(&self.seal, body).as_bytes()[..MAC]);
        mac
    }

    fn secret(&self, body: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.secret, body).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const LATER: Timestamp = Timestamp::from_millis(2_000);

    fn ids() -> (ActivityId, SkuId, UserId) {
        (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap(), UserId::new(3).unwrap())
    }

    fn keys(ids: &[u8]) -> ChallengeKeys {
        ChallengeKeys::new(ids.iter().map(|id| (u32::from(*id), [*id; 32]))).unwrap()
    }

    fn issued(keys: &ChallengeKeys, exercise: Exercise) -> IssuedChallenge {
        let (activity, sku, user) = ids();
        keys.issue(activity, sku, user, exercise, LATER).unwrap()
    }

    fn verify(keys: &ChallengeKeys, text: &str) -> Result<Challenge, ChallengeError> {
        let (activity, sku, user) = ids();
        keys.verify(text, activity, sku, user, NOW)
    }

    #[test]
    fn an_issued_challenge_verifies() {
        let keys = keys(&[1]);
        for exercise in [Exercise::None, Exercise::ProofOfWork, Exercise::Quiz] {
            let IssuedChallenge { text, challenge } = issued(&keys, exercise);
            assert_eq!(text.len(), 94);
            assert_eq!(verify(&keys, &text), Ok(challenge.clone()));
            let other = issued(&keys, exercise).challenge;
            assert!(challenge.seed != other.seed && challenge.secret() != other.secret());
        }
    }

    #[test]
    fn it_is_bound_to_user_offer_and_time() {
        let keys = keys(&[1]);
        let text = issued(&keys, Exercise::Quiz).text;
        let (activity, sku, user) = ids();
        let others = (ActivityId::new(9).unwrap(), SkuId::new(9).unwrap(), UserId::new(9).unwrap());
        assert_eq!(keys.verify(&text, others.0, sku, user, NOW), Err(ChallengeError::NotYours));
        assert_eq!(keys.verify(&text, activity, others.1, user, NOW), Err(ChallengeError::NotYours));
        assert_eq!(keys.verify(&text, activity, sku, others.2, NOW), Err(ChallengeError::NotYours));
        assert_eq!(keys.verify(&text, activity, sku, user, LATER), Err(ChallengeError::Expired));
    }

    #[test]
    fn keys_rotate() {
        let (before, during, after) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
        let old = issued(&before, Exercise::Quiz);
        assert_eq!(verify(&during, &old.text), Ok(old.challenge), "with the secret of its key");
        assert_eq!(verify(&after, &old.text), Err(ChallengeError::Unknown));
        let new = issued(&during, Exercise::Quiz).text;
        assert!(verify(&after, &new).is_ok());
        let impostor = ChallengeKeys::new([(1, [9; 32])]).unwrap();
        assert_eq!(verify(&impostor, &old.text), Err(ChallengeError::NotAuthentic));
        assert!(ChallengeKeys::new([]).is_err() && ChallengeKeys::new([(1, [0; 32])]).is_err());
        assert!(ChallengeKeys::new([(1, [1; 32]), (1, [2; 32])]).is_err());
        assert_eq!(format!("{:?}", keys(&[2, 1])), "ChallengeKeys([2, 1])");
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let keys = keys(&[1]);
        let text = issued(&keys, Exercise::ProofOfWork).text;
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&keys, &URL_SAFE_NO_PAD.encode(altered)).is_err(), "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(verify(&keys, &text[..length]).is_err());
        }
        for longer in ["A", "=", " "] {
            assert!(verify(&keys, &format!("{text}{longer}")).is_err());
        }
        // An easier exercise, without a new MAC.
        let mut easier = bytes;
        easier[5] = Exercise::None as u8;
        assert_eq!(verify(&keys, &URL_SAFE_NO_PAD.encode(easier)), Err(ChallengeError::NotAuthentic));
    }
}
