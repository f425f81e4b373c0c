//! What belongs to no lane: the consumers, and captures of payments that nobody has opened. It is kept
//! in a lane of the ledger itself.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::{ActivityId, Capture},
    ledger::{
        Bucket, Consumer, Lane, LedgerError,
        wire::{self, Wire},
    },
};

/// The lane of the ledger itself. No activity has so many buckets.
pub(super) fn lane() -> Lane {
    Lane { activity: ActivityId::new(1).expect("1 is an id"), bucket: Bucket::MAX }
}

/// What is kept as a list.
pub(super) trait Value: Serialize + DeserializeOwned + Send {
    const KIND: &str;
}

impl Value for Consumer {
    const KIND: &str = "the consumers";
}

impl Value for Capture {
    const KIND: &str = "kept captures";
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(bound = "T: Value")]
struct List<T>(Vec<T>);

impl<T: Value> Wire for List<T> {
    const KIND: &str = T::KIND;
    const VERSION: u8 = 1;
}

/// Reads a list; a row that is not there is an empty one.
pub(super) fn decode<T: Value>(bytes: Option<&[u8]>) -> Result<Vec<T>, LedgerError> {
    let list = bytes.map(wire::decode::<List<T>>).transpose()?;
    Ok(list.map_or_else(Vec::new, |list| list.0))
}

pub(super) fn encode<T: Value + Clone>(list: &[T]) -> Option<Vec<u8>> {
    (!list.is_empty()).then(|| wire::encode(&List(list.to_vec())))
}
