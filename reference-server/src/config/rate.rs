//! `[rate]`: how often one buyer may ask.

use std::{num::NonZeroU32, time::Duration};

use flashsale_core::{domain::Invalid, rate::Quota};
use serde::{Deserialize, Serialize};

/// How often one buyer may ask for an order; table `[rate]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// `rate.user_orders`: order requests of one user in `user_seconds`, all at once or spread. Default 30.
    pub user_orders: NonZeroU32,
    /// `rate.user_seconds`: the span of `user_orders`. Default 10.
    pub user_seconds: u64,
    /// `rate.users`: users that are remembered at the same time, 16 to 32 bytes each. Default 262144.
    pub users: NonZeroU32,
}

impl Default for RateConfig {
    fn default() -> Self {
        let number = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        Self { user_orders: number(30), user_seconds: 10, users: number(1 << 18) }
    }
}

impl RateConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::within(problems, "rate.users", self.users.get(), 1..=1 << 24);
        if let Err(error) = self.quota() {
            problems.push(format!("rate.user_orders: {error}"));
        }
    }

    /// The quota of one user.
    ///
    /// # Errors
    ///
    /// If the numbers make no quota.
    pub fn quota(&self) -> Result<Quota, Invalid> {
        Quota::new(self.user_orders, Duration::from_secs(self.user_seconds))
    }
}
