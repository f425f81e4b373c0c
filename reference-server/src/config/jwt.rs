//! `[identity.jwt]`: tokens of the shop's identity provider.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Tokens of the shop's identity provider; table `[identity.jwt]`. Without a key they are not accepted.
///
/// A file is read again when it changes, within `reload_seconds`: put the new key into the set beside the old one, and
/// take the old one out when its last token has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// `identity.jwt.hs256_secret_file`: the file with a shared secret of 32 bytes or more, for HS256. Default none.
    pub hs256_secret_file: Option<PathBuf>,
    /// `identity.jwt.rs256_key_file`: the file with an RSA public key (PEM, 2048 bits or more), for RS256. Default none.
    pub rs256_key_file: Option<PathBuf>,
    /// `identity.jwt.jwks_file`: a JSON Web Key Set; of its keys those for HS256 and RS256 are used. Default none.
    pub jwks_file: Option<PathBuf>,
    /// `identity.jwt.issuer`: what `iss` has to be. Needed with a key.
    pub issuer: Option<String>,
    /// `identity.jwt.audience`: what `aud` has to be or to have among others. Needed with a key.
    pub audience: Option<String>,
    /// `identity.jwt.leeway_seconds`: how far the clocks of provider and server may be apart. Default 30.
    pub leeway_seconds: u64,
    /// `identity.jwt.user_claim`: the claim with the user's id, a number from 1, as text or number. Default sub.
    pub user_claim: String,
    /// `identity.jwt.name_claim`: the claim with the user's name; without it the id is the name. Default name.
    pub name_claim: String,
    /// `identity.jwt.created_claim`: the claim with the time at which the account was made, in seconds since 1970, for the guards.
    /// A token without it is accepted; one with anything else there is not. Default none: nobody knows.
    pub created_claim: Option<String>,
    /// `identity.jwt.level_claim`: the claim with the customer's level, 0 (new) to 255, for the guards. A token without it is
    /// accepted; one with anything else there is not. Default none: nobody knows.
    pub level_claim: Option<String>,
    /// `identity.jwt.cached_tokens`: verified tokens that are remembered until they end, about 200 bytes each. Default
    /// 65536.
    pub cached_tokens: usize,
    /// `identity.jwt.reload_seconds`: how often the files are looked at. Default 10.
    pub reload_seconds: u64,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            hs256_secret_file: None,
            rs256_key_file: None,
            jwks_file: None,
            issuer: None,
            audience: None,
            leeway_seconds: 30,
            user_claim: "sub".to_owned(),
            name_claim: "name".to_owned(),
            created_claim: None,
            level_claim: None,
            cached_tokens: 65_536,
            reload_seconds: 10,
        }
    }
}

impl JwtConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "identity.jwt.leeway_seconds", self.leeway_seconds, 0..=600);
        super::range::within(problems, "identity.jwt.cached_tokens", self.cached_tokens, 1..=16 << 20);
        super::range::within(problems, "identity.jwt.reload_seconds", self.reload_seconds, 1..=86_400);
        for (key, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if self.is_on() && value.as_ref().is_none_or(String::is_empty) {
                problems.push(format!(
                    "identity.jwt.{key}: say which one tokens have to name, so that those for others are refused"
                ));
            }
        }
        for (key, claim) in [
            ("user_claim", Some(&self.user_claim)),
            ("name_claim", Some(&self.name_claim)),
            ("created_claim", self.created_claim.as_ref()),
            ("level_claim", self.level_claim.as_ref()),
        ] {
            if claim.is_some_and(String::is_empty) {
                problems.push(format!("identity.jwt.{key}: give the name of a claim"));
            }
        }
    }

    /// Whether there is a key.
    pub fn is_on(&self) -> bool {
        self.hs256_secret_file.is_some() || self.rs256_key_file.is_some() || self.jwks_file.is_some()
    }

    /// `leeway_seconds` as a span.
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.leeway_seconds)
    }

    /// `reload_seconds` as a span.
    pub fn reload(&self) -> Duration {
        Duration::from_secs(self.reload_seconds)
    }
}
