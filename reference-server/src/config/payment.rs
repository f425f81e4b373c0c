//! `[payment]`: the payment provider and payment deadlines.

use std::time::Duration;

use flashsale_core::ledger::Timing;
use serde::{Deserialize, Serialize};

use super::BreakerConfig;

/// The payment provider and payment deadlines; table `[payment]`.
///
/// Changed deadlines apply to activities that are opened afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentConfig {
    /// `payment.sandbox`: use the sandbox, which moves no money. Default false; on with `demo`.
    pub sandbox: bool,
    /// `payment.captures_in_parts`: whether captures of a part of the amount add up; if not, each is
    /// refunded. Default true.
    pub captures_in_parts: bool,
    /// `payment.window_seconds`: how long a buyer has to complete a payment. Default 900.
    pub window_seconds: u64,
    /// `payment.cap_seconds`: how long a payment may outlast its order's deadline. Default 900.
    pub cap_seconds: u64,
    /// `payment.close_grace_seconds`: how long after its deadline to retry closing. Default 300.
    pub close_grace_seconds: u64,
    /// `payment.close_retry_seconds`: interval between attempts to close a payment. Default 10.
    pub close_retry_seconds: u64,
    /// `[payment.breaker]`: the circuit breaker of the provider.
    pub breaker: BreakerConfig,
}

impl Default for PaymentConfig {
    fn default() -> Self {
        Self {
            sandbox: false,
            captures_in_parts: true,
            window_seconds: 900,
            cap_seconds: 900,
            close_grace_seconds: 300,
            close_retry_seconds: 10,
            breaker: BreakerConfig::default(),
        }
    }
}

impl PaymentConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "payment.window_seconds", self.window_seconds, 1..=604_800);
        super::range::within(problems, "payment.cap_seconds", self.cap_seconds, 0..=604_800);
        super::range::within(problems, "payment.close_grace_seconds", self.close_grace_seconds, 1..=604_800);
        super::range::within(problems, "payment.close_retry_seconds", self.close_retry_seconds, 1..=3_600);
        self.breaker.check(problems);
    }

    /// Converts the deadlines to the ledger's timing.
    pub fn timing(&self) -> Timing {
        Timing {
            payment_window: Duration::from_secs(self.window_seconds),
            payment_cap: Duration::from_secs(self.cap_seconds),
            close_grace: Duration::from_secs(self.close_grace_seconds),
            close_retry: Duration::from_secs(self.close_retry_seconds),
        }
    }
}
