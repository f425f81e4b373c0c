//! Stock, adjustments, and transfers between buckets.

use serde::{Deserialize, Serialize};

use super::{Bucket, Epoch};
use crate::domain::{ActivityId, Attribution, Invalid, SkuId, text::Bounded};

/// The units of an offer: a sum over the lanes, each read at its own moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Units at the start.
    pub units: i64,
    /// The sum of all adjustments.
    pub adjusted: i64,
    /// Units that can be taken. Negative at a gate that owes units.
    pub available: i64,
    /// Units that belong to unpaid orders.
    pub held: i64,
    /// Units that belong to paid orders.
    pub sold: i64,
    /// Units on their way between buckets.
    pub transit: i64,
    /// The epoch of the activity.
    pub epoch: Epoch,
}

/// The id of an adjustment, chosen by who asks for it: 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdjustmentId(pub Bounded<64>);

impl AdjustmentId {
    /// An id of a text.
    ///
    /// # Errors
    /// Empty or longer than 64 characters.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        Bounded::new(text).map(Self).map_err(|invalid| Invalid::new("adjustment_id", invalid.reason))
    }
}

/// A change of an offer's units, by a delta and never to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// The activity.
    pub activity: ActivityId,
    /// The offer.
    pub sku: SkuId,
    /// Its id in the activity: the same id adjusts once.
    pub id: AdjustmentId,
    /// By how many units; −10⁹ to 10⁹, not 0.
    pub delta: i64,
    /// Who asks for it and why.
    pub by: Attribution,
}

/// The outcome of an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// There is no such offer.
    UnknownOffer,
    /// It is in force.
    Done,
    /// It was in force before.
    Replayed,
    /// The id was used for another offer or delta.
    IdReused,
    /// A negative delta is larger than what the activity's first lane has; nothing was taken.
    Insufficient {
        /// What the lane has.
        available: u32,
    },
}

/// Units on their way from one bucket of an activity to another.
///
/// Transfers between two buckets are numbered from 1 without gaps, and arrive in that order: the destination remembers
/// one number for each source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transfer {
    /// The activity.
    pub activity: ActivityId,
    /// The epoch in which it was sent. A rebuild divides all units anew, so a transfer ends with its epoch.
    pub epoch: Epoch,
    /// The source.
    pub from: Bucket,
    /// The destination.
    pub to: Bucket,
    /// Its number among the transfers from that source to that destination, from 1.
    pub number: u64,
    /// The offer.
    pub sku: SkuId,
    /// How many units.
    pub units: u32,
}
