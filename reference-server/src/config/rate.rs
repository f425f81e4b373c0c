//! `[rate]`: how often one buyer, and one address, may ask.

use std::{num::NonZeroU32, time::Duration};

use flashsale_core::{domain::Invalid, rate_limiter::Quota};
use serde::{Deserialize, Serialize};

/// How often one buyer, and one address, may ask; table `[rate]`. `[guard]` says which of these quotas are used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// `rate.user_orders`: order requests of one user in `user_seconds`, all at once or spread. Default 30.
    pub user_orders: NonZeroU32,
    /// `rate.user_seconds`: the span of `user_orders`. Default 10.
    pub user_seconds: u64,
    /// `rate.address_orders`: order requests from one address in `address_seconds`. Whole companies and networks of mobile
    /// phones share one: this is against a machine, not against a person. Default 20000.
    pub address_orders: NonZeroU32,
    /// `rate.address_seconds`: the span of `address_orders`. Default 10.
    pub address_seconds: u64,
    /// `rate.user_tickets`: tickets and challenges that one user asks for in `tickets_seconds`. Default 30.
    pub user_tickets: NonZeroU32,
    /// `rate.busy_address`: tickets and challenges that are asked for from one address in `tickets_seconds` until it counts
    /// as busy. Default 60.
    pub busy_address: NonZeroU32,
    /// `rate.tickets_seconds`: the span of `user_tickets` and `busy_address`. Default 60.
    pub tickets_seconds: u64,
    /// `rate.failures`: failed challenges of one user that are told apart. Default 5.
    pub failures: NonZeroU32,
    /// `rate.failures_seconds`: how long it takes until so many are forgotten. Default 1800.
    pub failures_seconds: u64,
    /// `rate.users`: users that are remembered at the same time, 48 to 96 bytes each. Default 262144.
    pub users: NonZeroU32,
    /// `rate.addresses`: addresses that are remembered at the same time, 32 to 64 bytes each. Default 262144.
    pub addresses: NonZeroU32,
}

impl Default for RateConfig {
    fn default() -> Self {
        let number = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        Self {
            user_orders: number(30),
            user_seconds: 10,
            address_orders: number(20_000),
            address_seconds: 10,
            user_tickets: number(30),
            busy_address: number(60),
            tickets_seconds: 60,
            failures: number(5),
            failures_seconds: 1_800,
            users: number(1 << 18),
            addresses: number(1 << 18),
        }
    }
}

/// The quotas of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Orders of one user.
    pub user_orders: Quota,
    /// Orders from one address.
    pub address_orders: Quota,
    /// Tickets and challenges of one user.
    pub user_tickets: Quota,
    /// Tickets and challenges from one address.
    pub busy_address: Quota,
    /// Failed challenges of one user.
    pub failures: Quota,
}

impl RateConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "rate.users", self.users.get(), 1..=1 << 24);
        super::range::within(problems, "rate.addresses", self.addresses.get(), 1..=1 << 24);
        for (key, burst, seconds) in self.pairs() {
            if let Err(error) = quota(burst, seconds) {
                problems.push(format!("rate.{key}: {error}"));
            }
        }
    }

    /// The quotas.
    ///
    /// # Errors
    ///
    /// If some numbers make no quota.
    pub fn quotas(&self) -> Result<Quotas, Invalid> {
        let [user_orders, address_orders, user_tickets, busy_address, failures] =
            self.pairs().map(|(_, burst, seconds)| quota(burst, seconds));
        Ok(Quotas {
            user_orders: user_orders?,
            address_orders: address_orders?,
            user_tickets: user_tickets?,
            busy_address: busy_address?,
            failures: failures?,
        })
    }

    fn pairs(&self) -> [(&'static str, NonZeroU32, u64); 5] {
        [
            ("user_orders", self.user_orders, self.user_seconds),
            ("address_orders", self.address_orders, self.address_seconds),
            ("user_tickets", self.user_tickets, self.tickets_seconds),
            ("busy_address", self.busy_address, self.tickets_seconds),
            ("failures", self.failures, self.failures_seconds),
        ]
    }
}

fn quota(burst: NonZeroU32, seconds: u64) -> Result<Quota, Invalid> {
    Quota::new(burst, Duration::from_secs(seconds))
}
