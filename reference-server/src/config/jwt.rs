//! `[identity.jwt]`: tokens from the shop's identity provider.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Tokens from the shop's identity provider; table `[identity.jwt]`. Off without a key.
///
/// Changed files are reloaded within `reload_seconds`. To rotate, add the new key to the set, and
/// remove the old one when its last token has expired.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// `identity.jwt.hs256_secret_file`: file with an HS256 secret of at least 32 bytes.
    pub hs256_secret_file: Option<PathBuf>,
    /// `identity.jwt.rs256_key_file`: PEM file with an RSA public key of at least 2048 bits.
    pub rs256_key_file: Option<PathBuf>,
    /// `identity.jwt.jwks_file`: JSON Web Key Set; its HS256 and RS256 keys are used. Default none.
    pub jwks_file: Option<PathBuf>,
    /// `identity.jwt.issuer`: the required `iss` claim. Required with a key.
    pub issuer: Option<String>,
    /// `identity.jwt.audience`: value that `aud` must be or contain. Required with a key.
    pub audience: Option<String>,
    /// `identity.jwt.leeway_seconds`: tolerated clock difference to the provider. Default 30.
    pub leeway_seconds: u64,
    /// `identity.jwt.user_claim`: claim with the user's id, from 1, as number or text. Default sub.
    pub user_claim: String,
    /// `identity.jwt.name_claim`: claim with the user's name; if missing, the id. Default name.
    pub name_claim: String,
    /// `identity.jwt.created_claim`: claim with the account's creation time in seconds since 1970,
    /// for the guards. Optional in tokens, but must be valid if present. Default none.
    pub created_claim: Option<String>,
    /// `identity.jwt.level_claim`: claim with the customer's level, 0 (new) to 255, for the guards.
    /// Optional in tokens, but must be valid if present. Default none.
    pub level_claim: Option<String>,
    /// `identity.jwt.cached_tokens`: cached verified tokens, about 200 bytes each. Default 65536.
    pub cached_tokens: usize,
    /// `identity.jwt.reload_seconds`: how often the files are checked for changes. Default 10.
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
                    "identity.jwt.{key}: required with a key; give the {key} that tokens must name"
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
                problems.push(format!("identity.jwt.{key}: give the name of a claim; it is empty"));
            }
        }
    }

    /// Returns whether a key is configured.
    pub fn is_on(&self) -> bool {
        self.hs256_secret_file.is_some() || self.rs256_key_file.is_some() || self.jwks_file.is_some()
    }

    /// Returns `leeway_seconds` as a duration.
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.leeway_seconds)
    }

    /// Returns `reload_seconds` as a duration.
    pub fn reload(&self) -> Duration {
        Duration::from_secs(self.reload_seconds)
    }
}
