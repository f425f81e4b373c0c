//! The audit trail: rows chained by hashes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{Invalid, Name, Text, Timestamp};

/// An audited change: an action on a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The action: `created` or `changed`, as in `product.created`, or for an activity what
    /// [`rules::step_taken`](super::rules::step_taken) says; `kill_switch.on` or `kill_switch.off`;
    /// or one of a change made elsewhere, such as `offer.adjusted`.
    pub action: Name,
    /// The subject, in the form of [`Item`](super::Item): `offer/1/11`.
    pub subject: Name,
    /// The details needed to understand it later. For a changed value: its new `version` and under
    /// `changed`, for each changed field, what it `was` and what it `is`.
    pub detail: Value,
}

/// The record of one change by an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its number in the trail, from 1 without gaps.
    pub sequence: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The actor.
    pub actor: Name,
    /// The reason.
    pub reason: Text,
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// The event that it records, if the change was made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Name>,
    /// The hash of the previous row; zeros in the first.
    #[serde(default)]
    pub previous: AuditHash,
    /// The hash of this row, including all fields above.
    #[serde(skip)]
    pub hash: AuditHash,
}

/// The BLAKE3 hash of an audit row, which the next row refers to; 64 hexadecimal digits as text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// Returns the bytes.
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

/// The result of verifying the whole trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheck {
    /// The number of rows.
    pub rows: u64,
    /// The hash of the last row; zeros if there is none. Keep it elsewhere to prove later that
    /// these rows are unchanged: whoever can write the whole store can also rewrite the trail.
    pub hash: AuditHash,
    /// The first altered row; `None` if the trail is intact.
    pub broken: Option<AuditBreak>,
}

/// An altered row of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBreak {
    /// The sequence of the row.
    pub sequence: u64,
    /// What is wrong with it.
    pub reason: String,
}
