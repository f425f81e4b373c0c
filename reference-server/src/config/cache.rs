//! `[cache]`: caches of rendered products and SKUs.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

/// Caches of rendered products and SKUs; table `[cache]`. Activities are always in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// `cache.products`: products (about 40 KiB each) and SKUs kept, 32 to 1000000. Default 10000.
    pub products: NonZeroUsize,
    /// `cache.life_seconds`: maximum age, 1 to 2592000; changes show at once. Default 86400.
    pub life_seconds: u64,
    /// `cache.absences`: how many unknown ids are remembered, 32 to 1000000. Default 10000.
    pub absences: NonZeroUsize,
    /// `cache.absence_seconds`: how long an unknown id is remembered, 1 to 86400. Default 30.
    pub absence_seconds: u64,
    /// `cache.loads`: concurrent loads per cache, at most 1024; 0 means one per core. Default 0.
    pub loads: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let bound = NonZeroUsize::new(10_000).expect("10000 is not zero");
        Self { products: bound, life_seconds: 86_400, absences: bound, absence_seconds: 30, loads: 0 }
    }
}

impl CacheConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "cache.products", self.products.get(), 32..=1_000_000);
        super::range::within(problems, "cache.life_seconds", self.life_seconds, 1..=2_592_000);
        super::range::within(problems, "cache.absences", self.absences.get(), 32..=1_000_000);
        super::range::within(problems, "cache.absence_seconds", self.absence_seconds, 1..=86_400);
        super::range::within(problems, "cache.loads", self.loads, 0..=1_024);
    }

    /// Returns `life_seconds` as a duration.
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.life_seconds)
    }

    /// Returns `absence_seconds` as a duration.
    pub fn absence_life(&self) -> Duration {
        Duration::from_secs(self.absence_seconds)
    }
}
