//! Generators of ids with the same settings: ours and those of the registry's crates.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ferroid::{generator::AtomicSnowflakeGenerator, id::SnowflakeTwitterId, time::TimeSource};
use flashsale_core::{
    domain::{Clock, Timestamp},
    snowflake::{Generator, Lease, Settings},
};

/// The operating system's clock, for ferroid, whose own clock is a thread that renews a number.
#[derive(Clone, Copy, Debug)]
pub struct FerroidSystem;

impl TimeSource<u64> for FerroidSystem {
    fn current_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        u64::try_from(since.as_millis()).expect("a clock before the year 292,000,000")
    }
}

/// Ours.
///
/// # Panics
/// Never: the default layout has room for worker 1.
pub fn ours(clock: Arc<dyn Clock>) -> Generator {
    let lease = Lease { worker: 1, from: Timestamp::EPOCH, until: Timestamp::MAX };
    Generator::new(&Settings::default(), lease, clock).expect("worker 1 fits")
}

/// Ferroid's.
pub fn ferroid<T: TimeSource<u64>>(time: T) -> AtomicSnowflakeGenerator<SnowflakeTwitterId, T> {
    AtomicSnowflakeGenerator::new(1, time)
}
