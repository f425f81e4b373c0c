//! What a gate's lane is loading.

use serde::{Deserialize, Serialize};

use crate::{domain::OrderId, ledger::Epoch};

/// How much of its next content a gate's lane has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loading {
    pub(super) epoch: Epoch,
    /// The cursor with which the last chunk was requested.
    pub(super) after: Option<OrderId>,
    /// The cursor of the next chunk; `None` if there is none.
    pub(super) next: Option<OrderId>,
    /// Per offer, the free units of all lanes, once these have begun to open.
    pub(super) free: Option<Vec<i64>>,
}
