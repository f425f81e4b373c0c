//! Stock, adjustments, and transfers between buckets.

use serde::{Deserialize, Serialize};

use super::{Bucket, Epoch};
use crate::domain::{ActivityId, Attribution, Invalid, SkuId, text::Bounded};

/// The units of an offer, summed over lanes that are read at different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Initial units.
    pub units: i64,
    /// The sum of all adjustments.
    pub adjusted: i64,
    /// Units that can be taken; negative at a gate that owes units.
    pub available: i64,
    /// Units held by unpaid orders.
    pub held: i64,
    /// Units of paid orders.
    pub sold: i64,
    /// Units in transit between buckets.
    pub transit: i64,
    /// The epoch of the activity.
    pub epoch: Epoch,
}

/// The id of an adjustment, chosen by its requester: 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdjustmentId(pub Bounded<64>);

impl AdjustmentId {
    /// Creates an id from a text.
    ///
    /// # Errors
    /// If it is not a valid [`Bounded`] text of 1 to 64 characters.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        Bounded::new(text).map(Self).map_err(|invalid| Invalid::new("adjustment_id", invalid.reason))
    }
}

/// A change of an offer's units by a delta, never an absolute value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// The activity.
    pub activity: ActivityId,
    /// The offer.
    pub sku: SkuId,
    /// Its id, unique in the activity; an id takes effect once.
    pub id: AdjustmentId,
    /// The number of units to add: −10⁹ to 10⁹, not 0.
    pub delta: i64,
    /// The requester and the reason.
    pub by: Attribution,
}

/// The outcome of an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// The offer does not exist.
    UnknownOffer,
    /// The adjustment is in force.
    Done,
    /// The adjustment was already in force.
    Replayed,
    /// The id belongs to another offer or delta.
    IdReused,
    /// The first lane has too few units for a negative delta; nothing was changed.
    Insufficient {
        /// The units available in the lane.
        available: u32,
    },
}

/// Units in transit from one bucket of an activity to another.
///
/// Transfers from one bucket to another are numbered from 1 without gaps and arrive in that order,
/// so the destination remembers one number per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transfer {
    /// The activity.
    pub activity: ActivityId,
    /// The epoch in which it was sent. A rebuild splits all units anew, which voids transfers.
    pub epoch: Epoch,
    /// The source.
    pub from: Bucket,
    /// The destination.
    pub to: Bucket,
    /// Its number among the transfers from this source to this destination.
    pub number: u64,
    /// The offer.
    pub sku: SkuId,
    /// The number of units.
    pub units: u32,
}
