//! Lanes: the shards in which decisions are in one order.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::domain::{ActivityId, UserId};

/// The number of a bucket in its activity, from 0.
pub type Bucket = u16;

/// One bucket of one activity. Every decision of a ledger belongs to one lane, and a lane decides in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// The activity.
    pub activity: ActivityId,
    /// The bucket, below the number of buckets of the activity's terms.
    pub bucket: Bucket,
}

impl Lane {
    /// The lane in which an activity decides what concerns the activity as a whole, such as adjustments.
    pub const fn first(activity: ActivityId) -> Self {
        Self { activity, bucket: 0 }
    }

    /// The lane of a buyer in an activity of `buckets` buckets: the same in every process and every version.
    ///
    /// The user id is scrambled with the finaliser of SplitMix64 (Steele, Lea, Flood 2014), because consecutive ids
    /// are common and must spread.
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
