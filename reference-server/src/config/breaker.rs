//! `[payment.breaker]`: the circuit breaker of the payment provider.

use std::time::Duration;

use flashsale_core::{circuit_breaker::BreakerOptions, domain::Invalid};
use serde::{Deserialize, Serialize};

/// When to stop calling the payment provider for a while; table `[payment.breaker]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// `payment.breaker.calls`: size of the window of recent calls, 1 to 64. Default 20.
    pub calls: u32,
    /// `payment.breaker.failures`: failed or slow (10 s) calls to open it, 1 to `calls`. Default
    /// 10.
    pub failures: u32,
    /// `payment.breaker.open_seconds`: time until probes are let through, 1 to 3600. Default 10.
    pub open_seconds: u64,
    /// `payment.breaker.probes`: probes that must succeed to close it, 1 to 64. Default 3.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { calls: 20, failures: 10, open_seconds: 10, probes: 3 }
    }
}

impl BreakerConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let most = BreakerOptions::MAX_CALLS;
        super::range::within(problems, "payment.breaker.calls", self.calls, 1..=most);
        super::range::within(
            problems,
            "payment.breaker.failures",
            self.failures,
            1..=self.calls.clamp(1, most),
        );
        super::range::within(problems, "payment.breaker.open_seconds", self.open_seconds, 1..=3_600);
        super::range::within(problems, "payment.breaker.probes", self.probes, 1..=most);
    }

    /// Converts to the options of the library.
    ///
    /// # Errors
    /// [`Invalid`] for values that the configuration check also reports.
    pub fn options(&self) -> Result<BreakerOptions, Invalid> {
        BreakerOptions::new(self.calls, self.failures, Duration::from_secs(self.open_seconds), self.probes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_and_the_library_accept_the_same_values() {
        assert_eq!(BreakerConfig::default().options(), Ok(BreakerOptions::default()));
        let change =
            |calls, failures, open_seconds, probes| BreakerConfig { calls, failures, open_seconds, probes };
        for (config, key) in [
            (change(0, 1, 1, 1), "calls"),
            (change(65, 1, 1, 1), "calls"),
            (change(5, 6, 1, 1), "failures"),
            (change(5, 0, 1, 1), "failures"),
            (change(5, 5, 0, 1), "open_seconds"),
            (change(5, 5, 1, 0), "probes"),
        ] {
            let mut problems = Vec::new();
            config.check(&mut problems);
            assert!(
                problems.len() == 1 && problems[0].starts_with(&format!("payment.breaker.{key}: ")),
                "{problems:?}"
            );
            assert!(config.options().is_err(), "{config:?}");
        }
    }
}
