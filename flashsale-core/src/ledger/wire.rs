//! The stored form of values that outlive a version of this library.
//!
//! A stored value is a version byte, and then the value in postcard. Each kind counts its own versions. When
//! a type changes, its kind gets the next version, and [`Wire::earlier`] reads the earlier ones through frozen
//! copies of the type. A version that is not known is refused, never guessed at: a store can only be read
//! by the version that wrote it or a later one.
//!
//! Golden files hold the bytes of each kind and version. A change of a type without a new version fails
//! their test.

use serde::{Serialize, de::DeserializeOwned};

use super::{Chunk, Entry, LedgerError, Terms};
use crate::domain::Order;

/// A kind of stored value.
pub trait Wire: Serialize + DeserializeOwned {
    /// What it is, for errors.
    const KIND: &str;
    /// The version that is written.
    const VERSION: u8;

    /// Reads an earlier version.
    ///
    /// # Errors
    /// [`Unreadable`].
    fn earlier(version: u8, bytes: &[u8]) -> Result<Self, Unreadable> {
        let _ = bytes;
        Err(Unreadable::Unknown { kind: Self::KIND, found: version, supported: Self::VERSION })
    }
}

/// Why a stored value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A version wrote it that this one does not know.
    #[error(
        "{kind} has version {found}, but this version reads only up to {supported}; use the version that wrote it"
    )]
    Unknown {
        /// What it is.
        kind: &'static str,
        /// Its version.
        found: u8,
        /// The highest version that can be read.
        supported: u8,
    },
    /// Its bytes are not such a value.
    #[error("{kind} is damaged: {reason}")]
    Damaged {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A ledger whose store holds what cannot be read stops.
impl From<Unreadable> for LedgerError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Stopped(unreadable.to_string().into())
    }
}

/// Returns the stored form of a value.
///
/// # Panics
/// Never: all kinds are plain data, which can always be serialized.
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![T::VERSION]).expect("plain data can always be serialized")
}

/// Reads a stored value.
///
/// # Errors
/// [`Unreadable`].
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Unreadable> {
    let damaged = |reason: String| Unreadable::Damaged { kind: T::KIND, reason };
    let (version, bytes) = bytes.split_first().ok_or_else(|| damaged("it is empty".to_owned()))?;
    if *version == T::VERSION || mutant!("wire-version-ignored") {
        return postcard::from_bytes(bytes).map_err(|error| damaged(error.to_string()));
    }
    T::earlier(*version, bytes)
}

impl Wire for Order {
    const KIND: &str = "an order";
    const VERSION: u8 = 1;
}

impl Wire for Entry {
    const KIND: &str = "an entry of an outbox";
    const VERSION: u8 = 1;
}

impl Wire for Terms {
    const KIND: &str = "the terms of an activity";
    const VERSION: u8 = 1;
}

impl Wire for Chunk {
    const KIND: &str = "a part of an activity's content";
    const VERSION: u8 = 1;
}
