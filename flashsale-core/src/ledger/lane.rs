//! Lanes: shards of a ledger, each with one order of decisions.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::domain::{ActivityId, UserId};

/// The index of a bucket in its activity, from 0.
pub type Bucket = u16;

/// One bucket of one activity. Every decision belongs to one lane; a lane decides in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// The activity.
    pub activity: ActivityId,
    /// The bucket, less than the number of buckets in the terms.
    pub bucket: Bucket,
}

impl Lane {
    /// Returns the lane that decides for the whole activity, such as adjustments.
    pub const fn first(activity: ActivityId) -> Self {
        Self { activity, bucket: 0 }
    }

    /// Returns the lane of a buyer; stable across processes and versions.
    ///
    /// Mixes the user id with the SplitMix64 finalizer (Steele, Lea, Flood 2014), so that
    /// consecutive ids, which are common, spread over the buckets.
    pub const fn of(activity: ActivityId, user: UserId, buckets: NonZeroU16) -> Self {
        let mut z = user.value().wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a u16")]
        let bucket = (z % buckets.get() as u64) as Bucket;
        Self { activity, bucket }
    }
}
