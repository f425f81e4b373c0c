//! The activities that are not in memory.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::activity::ActivityState;
use crate::{
    domain::{ActivityId, SkuId},
    ledger::{BatchId, Stock},
};

/// An activity that leaves memory.
#[derive(Debug)]
pub struct LeavingActivity {
    pub(super) left_in: BatchId,
    pub(super) stock: Vec<(SkuId, Stock)>,
    pub(super) state: ActivityState,
}

/// Which value of an activity is stored elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredActivity {
    /// The batch in which it left.
    pub left_in: BatchId,
    /// The number of its events, over all lanes. It grows with every change, so an older value has fewer.
    pub events: u64,
}

/// The activities that are not in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Away {
    /// The batch that names the stored value, also of those that came back.
    pub(super) stored: BTreeMap<ActivityId, StoredActivity>,
    /// Those that are not stored yet.
    pub(super) leaving: BTreeMap<ActivityId, Arc<LeavingActivity>>,
}
