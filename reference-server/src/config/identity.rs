//! `[identity]`: how buyers are authenticated.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::JwtConfig;

/// How buyers are authenticated; table `[identity]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// `identity.demo`: anybody can sign in as any user. Default false; on with `demo`.
    pub demo: bool,
    /// `[identity.jwt]`: tokens of the shop's identity provider.
    pub jwt: JwtConfig,
    /// `identity.session_seconds`: how long a demo session is valid. Default 43200.
    pub session_seconds: u64,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { demo: false, jwt: JwtConfig::default(), session_seconds: 43_200 }
    }
}

impl IdentityConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        self.jwt.check(problems);
        super::range::within(problems, "identity.session_seconds", self.session_seconds, 10..=2_592_000);
    }

    /// Returns `session_seconds` as a duration.
    pub fn session(&self) -> Duration {
        Duration::from_secs(self.session_seconds)
    }
}
