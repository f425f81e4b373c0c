//! `[rate]`: rate limits per user and per address.

use std::{num::NonZeroU32, time::Duration};

use flashsale_core::{domain::Invalid, rate_limiter::Quota};
use serde::{Deserialize, Serialize};

/// Rate limits per user and per address; table `[rate]`. `[guard]` turns each of them on or off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// `rate.user_orders`: order requests per user in `user_seconds`, bursts included. Default 30.
    pub user_orders: NonZeroU32,
    /// `rate.user_seconds`: period of `user_orders`. Default 10.
    pub user_seconds: u64,
    /// `rate.address_orders`: order requests per address in `address_seconds`. Companies and mobile
    /// networks share an address, so this limits machines, not people. Default 20000.
    pub address_orders: NonZeroU32,
    /// `rate.address_seconds`: period of `address_orders`. Default 10.
    pub address_seconds: u64,
    /// `rate.user_tickets`: ticket or challenge requests per user in `tickets_seconds`. Default 30.
    pub user_tickets: NonZeroU32,
    /// `rate.busy_address`: requests for tickets and challenges per address in `tickets_seconds`
    /// before the address counts as busy. Default 60.
    pub busy_address: NonZeroU32,
    /// `rate.tickets_seconds`: period of `user_tickets` and `busy_address`. Default 60.
    pub tickets_seconds: u64,
    /// `rate.failures`: failed challenges per user that count towards the risk. Default 5.
    pub failures: NonZeroU32,
    /// `rate.failures_seconds`: time until that many failures are forgotten. Default 1800.
    pub failures_seconds: u64,
    /// `rate.users`: users tracked at a time, 48 to 96 bytes each. Default 262144.
    pub users: NonZeroU32,
    /// `rate.addresses`: addresses tracked at a time, 32 to 64 bytes each. Default 262144.
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

/// The quotas that result from a [`RateConfig`].
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Orders per user.
    pub user_orders: Quota,
    /// Orders per address.
    pub address_orders: Quota,
    /// Tickets and challenges per user.
    pub user_tickets: Quota,
    /// Tickets and challenges per address.
    pub busy_address: Quota,
    /// Failed challenges per user.
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

    /// Converts to quotas.
    ///
    /// # Errors
    /// If a limit and its period do not make a valid quota.
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
