//! Secrets: never shown, compared in constant time, read from files of their own.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// Bytes that must not appear in logs, answers or errors.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Keeps `bytes`.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Makes 32 random bytes.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self::new(bytes))
    }

    /// Reads a file; the line end after the last line is not part of the secret.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has fewer than 16 bytes.
    pub fn read(file: &Path) -> io::Result<Self> {
        let place = |problem: String| io::Error::other(format!("{}: {problem}", file.display()));
        let bytes = fs::read(file).map_err(|error| place(error.to_string()))?;
        let bytes = bytes.trim_ascii_end();
        if bytes.len() < 16 {
            return Err(place("a secret has at least 16 bytes".to_owned()));
        }
        Ok(Self::new(bytes))
    }

    /// The bytes, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` is the same, in a time that does not depend on where they differ.
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

/// Only that there is one.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("set")
    }
}

/// Files that hold keys; table `[secrets]`. What is not given is made once and kept in the data directory.
///
/// Keys rotate the same way everywhere: put the new one first, so that it signs, and keep the old one behind it until
/// what it has signed has ended. Then take it out. Each change needs a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// `secrets.session_key_files`: for demo sessions and receipts; the first signs, all are accepted. An old one is needed
    /// for `identity.session_seconds` after the change; receipts that it signed find nothing afterwards, sessions do.
    pub session_key_files: Vec<PathBuf>,
    /// `[[secrets.ticket_keys]]`: the first signs new tickets, all are accepted. An old one is needed for
    /// `ticket.lead_seconds` and `ticket.lifetime_seconds` after the change.
    pub ticket_keys: Vec<TicketKey>,
    /// `[secrets.callback_files]`: for each payment provider the file with the secret of its callbacks, or a list of
    /// them, of which each is accepted: take the old one out when the provider signs with the new one.
    pub callback_files: BTreeMap<String, Files>,
}

/// The most keys that are accepted for one purpose: each costs a forger's request a computation.
const MAX_KEYS: usize = 8;

impl SecretsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let mut count = |key: &str, count: usize, least: usize| {
            super::range::within(problems, &format!("{key} (how many)"), count, least..=MAX_KEYS);
        };
        count("secrets.session_key_files", self.session_key_files.len(), 0);
        count("secrets.ticket_keys", self.ticket_keys.len(), 0);
        for (provider, Files(files)) in &self.callback_files {
            count(&format!("secrets.callback_files.{provider}"), files.len(), 1);
        }
        for (index, key) in self.ticket_keys.iter().enumerate() {
            if self.ticket_keys[..index].iter().any(|other| other.id == key.id) {
                problems.push(format!(
                    "secrets.ticket_keys[{index}].id: {} is taken; give each key a number of its own",
                    key.id
                ));
            }
        }
    }
}

/// One file or several.
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

/// One key of the ring that signs tickets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketKey {
    /// The number that tickets carry; never used again for another key.
    pub id: u8,
    /// The file with the key.
    pub file: PathBuf,
}
