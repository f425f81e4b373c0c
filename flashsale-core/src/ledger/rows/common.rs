//! What belongs to no activity: the consumers of lanes that open. It is kept in a lane of the ledger itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    domain::ActivityId,
    ledger::{Bucket, Consumer, Lane, wire::Wire},
};

/// The lane of the ledger itself. No activity has so many buckets.
pub(super) fn lane() -> Lane {
    Lane { activity: ActivityId::new(1).expect("1 is an id"), bucket: Bucket::MAX }
}

/// The row [`RowKey::Consumers`](super::RowKey::Consumers): each consumer, and whether all lanes know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consumers(pub(super) BTreeMap<Consumer, bool>);

impl Wire for Consumers {
    const KIND: &str = "the consumers";
    const VERSION: u8 = 1;
}
