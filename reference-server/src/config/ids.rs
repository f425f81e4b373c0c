//! `[ids]`: id generation.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Id generation; table `[ids]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdsConfig {
    /// `ids.lease_seconds`: lease term of a worker id, renewed after a third of it. Default 10.
    pub lease_seconds: u64,
}

impl Default for IdsConfig {
    fn default() -> Self {
        Self { lease_seconds: 10 }
    }
}

impl IdsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "ids.lease_seconds", self.lease_seconds, 1..=86_400);
    }

    /// Returns `lease_seconds` as a duration.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}
