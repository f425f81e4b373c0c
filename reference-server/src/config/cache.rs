//! `[cache]`: what is kept of products and SKUs, written out.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

/// What is kept of products and SKUs, written out; table `[cache]`. Activities and the home page are always kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// `cache.products`: how many products, and how many SKUs, 32 to 1000000. A product takes about 40 KiB. Default 10000.
    pub products: NonZeroUsize,
    /// `cache.life_seconds`: for how long, at most, 1 to 2592000; what an operator changes is written anew at once. Default 86400.
    pub life_seconds: u64,
    /// `cache.absences`: of how many ids it is kept that nothing has them, 32 to 1000000. Default 10000.
    pub absences: NonZeroUsize,
    /// `cache.absence_seconds`: for how long, at most, 1 to 86400. Default 30.
    pub absence_seconds: u64,
    /// `cache.loads`: how many products, and how many SKUs, are written at the same time, at most 1024; 0 for one for each core.
    /// Default 0.
    pub loads: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let bound = NonZeroUsize::new(10_000).expect("is not 0");
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

    /// `life_seconds` as a span.
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.life_seconds)
    }

    /// `absence_seconds` as a span.
    pub fn absence_life(&self) -> Duration {
        Duration::from_secs(self.absence_seconds)
    }
}
