//! Tokens from the shop's identity provider: JWTs (RFC 7519) signed with HS256 or RS256.

mod keys;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::{
    admission::Account,
    domain::{Name, Timestamp, UserId},
};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use self::keys::Keys;
use crate::{auth::caller::Caller, config::JwtConfig};

/// The longest accepted token, in bytes.
const LONGEST: usize = 8 * 1024;

/// Verifies tokens of the identity provider.
pub struct Jwt {
    config: JwtConfig,
    keys: ArcSwap<Keys>,
    /// Verified tokens by digest, so that an RSA signature is not verified again for every request.
    verified: Cache<blake3::Hash, Verified>,
}

#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    not_before: Timestamp,
    until: Timestamp,
    /// The digest of the keys that verified it: when the keys change, the entry is invalid.
    keys: blake3::Hash,
}

/// Why a token is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, or its signature does not match a configured key.
    #[error("The token is not a JWT signed with a key of this shop (HS256 or RS256): sign in again.")]
    NotSigned,
    /// It has expired.
    #[error("The token has expired: sign in again.")]
    Expired,
    /// It is not valid yet.
    #[error("The token is not valid yet: check the clock of the identity provider.")]
    NotYet,
    /// Its issuer or audience is not the configured one.
    #[error("The token is not for this shop: its {0} claim does not match.")]
    Foreign(&'static str),
    /// A claim is missing or malformed.
    #[error("The token's claim {claim} must be {expected}.")]
    Claim {
        /// The claim.
        claim: String,
        /// What it must be.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Critical extensions. None are supported, so such a token is rejected (RFC 7515, 4.1.11).
    crit: Option<Value>,
}

impl Jwt {
    /// Reads the key files.
    ///
    /// # Errors
    /// All problems with them, each with its configuration key.
    pub fn new(config: &JwtConfig) -> Result<Self, Vec<String>> {
        let keys = Keys::read(config)?;
        let verified = Cache::new(config.cached_tokens);
        Ok(Self { config: config.clone(), keys: ArcSwap::from_pointee(keys), verified })
    }

    /// Reloads the key files. Returns whether the keys changed.
    ///
    /// # Errors
    /// All problems with them; the old keys stay in use.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let keys = Keys::read(&self.config)?;
        let changed = keys.digest != self.keys.load().digest;
        if changed {
            self.keys.store(Arc::new(keys));
            self.verified.clear();
        }
        Ok(changed)
    }

    /// Reloads the key files periodically until `stop` becomes true.
    pub async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while timeout(self.config.reload(), stop.wait_for(|stop| *stop)).await.is_err() {
            let jwt = Arc::clone(&self);
            match spawn_blocking(move || jwt.reload()).await {
                Ok(Ok(true)) => tracing::info!("reloaded the JWT keys"),
                Ok(Ok(false)) => {}
                Ok(Err(problems)) => {
                    let problems = problems.join("; ");
                    tracing::error!(problems, "cannot reload the JWT keys; keeping the old ones");
                }
                Err(error) => tracing::error!(%error, "cannot reload the JWT keys; keeping the old ones"),
            }
        }
    }

    /// Verifies a token and returns its caller.
    ///
    /// # Errors
    /// [`TokenError`]; its text says what to do and contains nothing of the token.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::NotSigned);
        }
        let keys = self.keys.load();
        let digest = blake3::hash(token.as_bytes());
        let known = self.verified.get(&digest).filter(|known| known.keys == keys.digest);
        let verified = match known {
            Some(known) => known,
            None => {
                let verified = self.read(&keys, token, now)?;
                self.verified.insert(digest, verified.clone());
                verified
            }
        };
        if now >= verified.until {
            return Err(TokenError::Expired);
        }
        if now < verified.not_before {
            return Err(TokenError::NotYet);
        }
        Ok(verified.caller)
    }

    /// Returns whether a token is meant to be a JWT. Other kinds of tokens contain no dots.
    pub fn is_meant(token: &str) -> bool {
        token.contains('.')
    }

    fn read(&self, keys: &Keys, token: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let claims = Self::signed(keys, token).ok_or(TokenError::NotSigned)?;
        let leeway = self.config.leeway();
        let until = time(&claims, "exp")?.ok_or_else(|| number_needed("exp"))?.after(leeway);
        let not_before = ["nbf", "iat"].into_iter().filter_map(|claim| time(&claims, claim).transpose());
        let not_before = not_before.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let not_before = not_before.unwrap_or(Timestamp::EPOCH).before(leeway);
        if now >= until {
            return Err(TokenError::Expired);
        }
        if now < not_before {
            return Err(TokenError::NotYet);
        }
        if claims.get("iss").and_then(Value::as_str) != self.config.issuer.as_deref() {
            return Err(TokenError::Foreign("iss"));
        }
        let audience = self.config.audience.as_deref();
        let ours = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(|one| one.is_string() && one.as_str() == audience),
            Some(Value::String(one)) => Some(one.as_str()) == audience,
            _ => false,
        };
        if !ours {
            return Err(TokenError::Foreign("aud"));
        }
        let caller = Arc::new(self.caller(&claims)?);
        Ok(Verified { caller, not_before, until, keys: keys.digest })
    }

    /// Returns the claims of a token if one of `keys` verifies its signature.
    fn signed(keys: &Keys, token: &str) -> Option<Map<String, Value>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.crit.is_some()
            || !keys.verify(&header.alg, header.kid.as_deref(), signature, message.as_bytes())
        {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// Reads the account claims, for the guards.
    fn account(&self, claims: &Map<String, Value>) -> Result<Account, TokenError> {
        let JwtConfig { created_claim, level_claim, .. } = &self.config;
        let created_at = created_claim.as_ref().map(|claim| time(claims, claim)).transpose()?.flatten();
        let level = level_claim.as_ref().and_then(|claim| Some((claim, claims.get(claim)?)));
        let level = level.map(|(claim, level)| {
            let level = level.as_u64().and_then(|level| u8::try_from(level).ok());
            level.ok_or_else(|| TokenError::Claim { claim: claim.clone(), expected: "a level: 0 to 255" })
        });
        Ok(Account { created_at, level: level.transpose()? })
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<Caller, TokenError> {
        let JwtConfig { user_claim, name_claim, .. } = &self.config;
        let wrong = |claim: &String, expected| TokenError::Claim { claim: claim.clone(), expected };
        let user = match claims.get(user_claim) {
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_u64().and_then(UserId::new),
            _ => None,
        };
        let user = user.ok_or_else(|| wrong(user_claim, "the user's id: a number from 1"))?;
        let name = match claims.get(name_claim) {
            None | Some(Value::Null) => Name::new(&user.to_string()).ok(),
            Some(name) => name.as_str().and_then(|name| Name::new(name).ok()),
        };
        let name = name.ok_or_else(|| wrong(name_claim, "a name of 1 to 120 characters"))?;
        Ok(Caller { user, name, account: self.account(claims)? })
    }
}

/// Reads a time claim, if present: seconds since 1970, possibly fractional.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds));
    let seconds = seconds.ok_or_else(|| number_needed(claim))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 and 10^15")]
    Ok(Some(Timestamp::from_millis((seconds * 1_000.0) as u64)))
}

fn number_needed(claim: &str) -> TokenError {
    TokenError::Claim { claim: claim.to_owned(), expected: "a time: seconds since 1970" }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("config", &self.config).field("keys", &self.keys).finish_non_exhaustive()
    }
}
