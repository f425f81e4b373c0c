//! The audit trail: rows that hold each other's hashes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{Invalid, Name, Text, Timestamp};

/// What was done to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What was done: `product.created`, `activity.changed`, `offer.adjusted`.
    pub action: Name,
    /// To what, in the form of [`Item`](super::Item): `offer/1/11`.
    pub subject: Name,
    /// What is needed to understand it later. For a changed value its new version and, field by field, what it was
    /// and what it is.
    pub detail: Value,
}

/// One change that an operator made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its place in the trail, from 1 and without gaps.
    pub sequence: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Name,
    /// Why.
    pub reason: Text,
    /// What was done.
    #[serde(flatten)]
    pub change: Change,
    /// The event that it tells of, if the change was made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Name>,
    /// The hash of the row before; zeros in the first.
    #[serde(default)]
    pub previous: AuditHash,
    /// The hash of this row with everything above.
    #[serde(skip)]
    pub hash: AuditHash,
}

/// The BLAKE3 hash of an audit row, with which its successor refers to it; 64 hexadecimal digits in texts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for AuditHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AuditHash {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hash = blake3::Hash::from_hex(text);
        hash.map(|hash| Self(hash.into()))
            .map_err(|_| Invalid::new("hash", "a hash has 64 hexadecimal digits"))
    }
}

impl TryFrom<String> for AuditHash {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<AuditHash> for String {
    fn from(hash: AuditHash) -> Self {
        hash.to_string()
    }
}

/// What a check of the whole trail found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheck {
    /// How many rows it has.
    pub rows: u64,
    /// The hash of the last row; zeros if there is none. Whoever keeps it elsewhere can tell later that the trail up to
    /// that row is the same: somebody who can write the whole store can also write a whole new trail.
    pub hash: AuditHash,
    /// The first place that is not as it was written; `None` if every row is.
    pub broken: Option<AuditBreak>,
}

/// A place of the trail that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBreak {
    /// The sequence of the row.
    pub sequence: u64,
    /// What is wrong with it.
    pub reason: String,
}
