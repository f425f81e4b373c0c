//! Secrets: never shown, compared in constant time, read from files of their own.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use subtle::ConstantTimeEq;

/// Bytes that must not appear in logs, answers or errors.
#[derive(Clone, Deserialize)]
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

/// Files that hold keys; table `[secrets]`. What is not given is generated under `--demo`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// `secrets.session_key_file`: signs demo sessions and receipts.
    pub session_key_file: Option<PathBuf>,
    /// `[[secrets.ticket_keys]]`: the first signs new tickets, all are accepted; so keys rotate.
    pub ticket_keys: Vec<TicketKey>,
    /// `[secrets.callback_files]`: for each payment provider the file with the secret of its callbacks.
    pub callback_files: BTreeMap<String, PathBuf>,
}

/// One key of the ring that signs tickets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketKey {
    /// The number that tickets carry; never used again for another key.
    pub id: u8,
    /// The file with the key.
    pub file: PathBuf,
}
