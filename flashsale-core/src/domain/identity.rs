//! Identities: the texts by which an identity provider knows buyers.

use std::{fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Invalid, UserId};

/// The text by which an identity provider knows a buyer (`sub` of a token): 1 to 255 bytes, which
/// are compared as they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(Box<str>);

impl Identity {
    /// The longest identity, in bytes (OpenID Connect Core 1.0, section 2).
    pub const MAX_BYTES: usize = 255;

    /// Checks the length of a text.
    ///
    /// # Errors
    /// If it is empty or exceeds [`Self::MAX_BYTES`].
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            let reason =
                format!("an id of a user has 1 to {} bytes, this one {}", Self::MAX_BYTES, text.len());
            return Err(Invalid::new("user_id", reason));
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the user of an identity that is a canonical decimal number up to `i64::MAX`.
    pub fn number(&self) -> Option<UserId> {
        self.0.parse().ok().filter(|user: &UserId| !user.is_digest())
    }

    /// Returns the identity of a user whom the provider numbers; `None` if the number is a digest.
    pub fn of_number(user: UserId) -> Option<Self> {
        (!user.is_digest()).then(|| Self(user.to_string().into()))
    }
}

impl UserId {
    /// Returns whether the number is a digest of the user's identity, not the provider's number.
    pub const fn is_digest(self) -> bool {
        self.value() & DIGEST != 0
    }
}

/// Set in all digests and in no number of a provider.
const DIGEST: u64 = 1 << 63;

/// The secret key of the digests that number a deployment's users.
///
/// It never changes: with another key, the same people are other users.
#[derive(Clone)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// Takes 32 random bytes as a key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a random key.
    ///
    /// # Errors
    /// If the operating system provides no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the key's bytes, to store them. Keep them secret.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(hidden)")
    }
}

/// Numbers the users of one identity provider.
///
/// A number that the provider uses stays as it is. Any other text becomes a digest of 63 bits above
/// all such numbers. The digest is keyed, so nobody can compute which text meets another's digest.
///
/// ```
/// use flashsale_core::domain::{Identity, IdentityKey, Issuer};
///
/// let issuer = Issuer::new(&IdentityKey::new([7; 32]), "https://id.shop.example");
/// assert_eq!(issuer.user(&Identity::new("42")?).value(), 42);
/// assert!(issuer.user(&Identity::new("auth0|5f7c8ec7c33c6c004bbafe82")?).value() > i64::MAX as u64);
/// # Ok::<(), flashsale_core::domain::Invalid>(())
/// ```
#[derive(Clone)]
pub struct Issuer([u8; 32]);

impl Issuer {
    /// Creates the numbering of the provider that calls itself `name` (`iss` of a token).
    pub fn new(key: &IdentityKey, name: &str) -> Self {
        Self(*blake3::keyed_hash(&key.0, name.as_bytes()).as_bytes())
    }

    /// Returns the user with this identity.
    ///
    /// # Panics
    /// Never: the number has its top bit set, so it is not 0.
    pub fn user(&self, identity: &Identity) -> UserId {
        identity.number().unwrap_or_else(|| {
            let digest = blake3::keyed_hash(&self.0, identity.as_bytes());
            let first = digest.as_bytes()[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            UserId::new(first | DIGEST).expect("a number with a bit set is not 0")
        })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuer(hidden)")
    }
}

impl Deref for Identity {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Identity {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl TryFrom<String> for Identity {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(&text)
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.0.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn issuer(key: u8, name: &str) -> Issuer {
        Issuer::new(&IdentityKey::new([key; 32]), name)
    }

    fn identity(text: &str) -> Identity {
        Identity::new(text).unwrap()
    }

    #[test]
    fn numbers_of_the_provider_stay_and_meet_no_digest() {
        let issuer = issuer(7, "https://id.example");
        for number in [1, 42, 1 << 53, i64::MAX as u64] {
            assert_eq!(issuer.user(&identity(&number.to_string())).value(), number);
        }
        let texts = [
            "0",
            "042",
            "+42",
            " 42",
            "42 ",
            "-1",
            "４２",
            "1e3",
            "9223372036854775808",
            "18446744073709551615",
            "112233445566778899001",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "a\n",
            "\0",
        ];
        let users: HashSet<_> = texts.map(|text| issuer.user(&identity(text))).into();
        assert_eq!(users.len(), texts.len());
        assert!(users.iter().all(|user| user.is_digest()), "{users:?}");
    }

    #[test]
    fn a_user_depends_on_key_issuer_and_text_and_never_changes() {
        let user = |key, name: &str, text: &str| issuer(key, name).user(&identity(text)).value();
        // Recorded: another number would make other users of the same people.
        assert_eq!(user(7, "https://id.example", "ann"), KNOWN);
        let others = [
            user(8, "https://id.example", "ann"),
            user(7, "https://id.exampl", "eann"),
            user(7, "https://id.example", "Ann"),
        ];
        assert!(!others.contains(&KNOWN));
    }

    const KNOWN: u64 = 9_437_611_062_599_059_051;

    #[test]
    fn identities_have_1_to_255_bytes() {
        assert!(Identity::new("").is_err() && Identity::new(&"a".repeat(256)).is_err());
        assert!(Identity::new(&"字".repeat(85)).is_ok() && Identity::new(&"字".repeat(86)).is_err());
        assert_eq!(serde_json::to_string(&identity("a|b")).unwrap(), "\"a|b\"");
        assert!(serde_json::from_str::<Identity>("\"\"").is_err());
    }

    #[test]
    fn keys_are_not_shown() {
        let key = IdentityKey::random().unwrap();
        assert_eq!(format!("{key:?} {:?}", Issuer::new(&key, "x")), "IdentityKey(hidden) Issuer(hidden)");
    }
}
