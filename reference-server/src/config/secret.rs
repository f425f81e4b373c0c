//! Secrets: never shown, compared in constant time, read from separate files.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// Secret bytes. They must not appear in logs, answers or errors.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps `bytes`.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Generates 32 random bytes.
    ///
    /// # Errors
    /// If the system's random generator fails.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self::new(bytes))
    }

    /// Reads a secret from a file; trailing whitespace is not part of it.
    ///
    /// # Errors
    /// If the file cannot be read or has fewer than 16 bytes.
    pub fn read(file: &Path) -> io::Result<Self> {
        let in_file = |problem: String| io::Error::other(format!("{}: {problem}", file.display()));
        let bytes = fs::read(file).map_err(|error| in_file(error.to_string()))?;
        let bytes = bytes.trim_ascii_end();
        if bytes.len() < 16 {
            return Err(in_file("the secret is too short; it must have at least 16 bytes".to_owned()));
        }
        Ok(Self::new(bytes))
    }

    /// Returns the bytes, for cryptographic code only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether the secret has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with `other` in constant time.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Serializes as `set`, without the bytes.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("set")
    }
}

/// Key files; table `[secrets]`. Missing keys are generated once and stored in the data directory.
///
/// To rotate a key, put the new one first, so that it signs, and keep the old one after it until
/// everything that it signed has expired. Then remove it. Each change needs a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// `secrets.session_key_files`: keys of demo sessions and receipts; the first signs, all are
    /// accepted. Keep an old one for `identity.session_seconds`. Receipts do not expire: those that
    /// a removed key signed stop working, but a session still finds its orders.
    pub session_key_files: Vec<PathBuf>,
    /// `[[secrets.ticket_keys]]`: keys of tickets; the first signs, all are accepted. Keep an old
    /// one for `ticket.lead_seconds` plus `ticket.lifetime_seconds`.
    pub ticket_keys: Vec<TicketKey>,
    /// `[secrets.callback_files]`: the file, or files, with each payment provider's callback
    /// secret. All are accepted: remove an old one once the provider signs with the new one.
    pub callback_files: BTreeMap<String, Files>,
}

/// The maximum number of keys for one purpose. A forged request costs one MAC computation per key.
const MAX_KEYS: usize = 8;

impl SecretsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let mut count = |key: &str, count: usize, least: usize| {
            super::range::within(problems, &format!("{key} (number of keys)"), count, least..=MAX_KEYS);
        };
        count("secrets.session_key_files", self.session_key_files.len(), 0);
        count("secrets.ticket_keys", self.ticket_keys.len(), 0);
        for (provider, Files(files)) in &self.callback_files {
            count(&format!("secrets.callback_files.{provider}"), files.len(), 1);
        }
        for (index, key) in self.ticket_keys.iter().enumerate() {
            if self.ticket_keys[..index].iter().any(|other| other.id == key.id) {
                problems.push(format!(
                    "secrets.ticket_keys[{index}].id: {} is taken; give each key a unique number",
                    key.id
                ));
            }
        }
    }
}

/// One file or a list of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "OneOrMore")]
pub struct Files(pub Vec<PathBuf>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

impl From<OneOrMore> for Files {
    fn from(files: OneOrMore) -> Self {
        match files {
            OneOrMore::One(file) => Self(vec![file]),
            OneOrMore::More(files) => Self(files),
        }
    }
}

/// A key that signs tickets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketKey {
    /// The key's number, which tickets carry. Never reuse it for another key.
    pub id: u8,
    /// The file with the key.
    pub file: PathBuf,
}
