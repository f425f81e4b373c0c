//! Id generators with the same settings: ours and those of other crates.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ferroid::{generator::AtomicSnowflakeGenerator, id::SnowflakeTwitterId, time::TimeSource};
use flashsale_core::{
    domain::{Clock, Timestamp},
    snowflake::{Generator, HolderId, Lease, Settings},
};

/// The system clock for ferroid, whose own clock is an atomic that a thread updates.
#[derive(Clone, Copy, Debug)]
pub struct FerroidSystem;

impl TimeSource<u64> for FerroidSystem {
    fn current_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        u64::try_from(since.as_millis()).expect("a clock before the year 292,000,000")
    }
}

/// Creates our generator.
///
/// # Panics
/// Never: the default layout has room for worker 1.
pub fn ours(clock: Arc<dyn Clock>) -> Generator {
    let lease = Lease { worker: 1, holder: HolderId(1), from: Timestamp::EPOCH, until: Timestamp::MAX };
    Generator::new(&Settings::default(), lease, clock).expect("worker 1 fits")
}

/// Creates ferroid's generator.
pub fn ferroid<T: TimeSource<u64>>(time: T) -> AtomicSnowflakeGenerator<SnowflakeTwitterId, T> {
    AtomicSnowflakeGenerator::new(1, time)
}
