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
    /// `identity.jwt.jwks_file`: JSON Web Key Set with HS256, RS256/384/512, PS256/384/512, ES256,
    /// ES384 and EdDSA keys; others are skipped. Default none.
    pub jwks_file: Option<PathBuf>,
    /// `identity.jwt.keys_directory`: directory of public keys (`.pem`) and key sets (`.json`).
    /// Default none.
    pub keys_directory: Option<PathBuf>,
    /// `identity.jwt.jwks_url`: `https://` address of a JSON Web Key Set; its public keys are used.
    /// The last good set stays in use, also after a restart, while the address fails. Default none.
    pub jwks_url: Option<String>,
    /// `identity.jwt.jwks_ca_file`: CA certificates (PEM) of that address; required with `jwks_url`.
    pub jwks_ca_file: Option<PathBuf>,
    /// `identity.jwt.jwks_refresh_seconds`: how often the set is fetched; besides, within
    /// `reload_seconds` when a token names a key that it lacks, or after a failure. Default 300.
    pub jwks_refresh_seconds: u64,
    /// `identity.jwt.issuer`: the required `iss` claim. Required with a key.
    pub issuer: Option<String>,
    /// `identity.jwt.audience`: value that the audience claim must be or contain. Required with a key.
    pub audience: Option<String>,
    /// `identity.jwt.audience_claim`: claim that names the audience, such as client_id. Default aud.
    pub audience_claim: String,
    /// `identity.jwt.leeway_seconds`: tolerated clock difference to the provider. Default 30.
    pub leeway_seconds: u64,
    /// `identity.jwt.user_claim`: claim with the user's id: a text of 1 to 255 bytes, or a whole
    /// number. Numbers from 1 to 2^63-1 are the ledger's too. Default sub.
    pub user_claim: String,
    /// `identity.jwt.name_claim`: claim with the user's name; without one that can be shown, the
    /// id. Default name.
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
            keys_directory: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh_seconds: 300,
            issuer: None,
            audience: None,
            audience_claim: "aud".to_owned(),
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
        let refresh = self.jwks_refresh_seconds;
        super::range::within(problems, "identity.jwt.jwks_refresh_seconds", refresh, 10..=86_400);
        if self.jwks_url.is_some() != self.jwks_ca_file.is_some() {
            let (missing, given) = match self.jwks_url {
                Some(_) => ("jwks_ca_file", "jwks_url"),
                None => ("jwks_url", "jwks_ca_file"),
            };
            problems.push(format!("identity.jwt.{missing}: required with identity.jwt.{given}"));
        }
        for (key, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if self.is_on() && value.as_ref().is_none_or(String::is_empty) {
                problems.push(format!(
                    "identity.jwt.{key}: required with a key; give the {key} that tokens must name"
                ));
            }
        }
        for (key, claim) in [
            ("audience_claim", Some(&self.audience_claim)),
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
        self.hs256_secret_file.is_some()
            || self.rs256_key_file.is_some()
            || self.jwks_file.is_some()
            || self.keys_directory.is_some()
            || self.jwks_url.is_some()
    }

    /// Returns `leeway_seconds` as a duration.
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.leeway_seconds)
    }

    /// Returns `jwks_refresh_seconds` as a duration.
    pub fn jwks_refresh(&self) -> Duration {
        Duration::from_secs(self.jwks_refresh_seconds)
    }

    /// Returns `reload_seconds` as a duration.
    pub fn reload(&self) -> Duration {
        Duration::from_secs(self.reload_seconds)
    }
}
