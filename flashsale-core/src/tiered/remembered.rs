//! What the rounds of the pump remember of an activity.

use crate::ledger::{Bucket, Position};

/// What the rounds of an activity remember.
#[derive(Debug, Default)]
pub(super) struct Pump {
    pub(super) buckets: Option<Bucket>,
    /// The position in the truth's outbox up to which every lane of the gate has followed.
    pub(super) followed: Option<Position>,
}
