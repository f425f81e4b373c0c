//! Tokens of the shop's identity provider: signed JWTs (RFC 7519) with HS256 or RS256.

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

/// The longest token: 8 KiB.
const LONGEST: usize = 8 * 1024;

/// Verifies tokens.
pub struct Jwt {
    config: JwtConfig,
    keys: ArcSwap<Keys>,
    /// Under the digest of a token: who it stands for, and how long. A verified signature of RSA need not be verified again
    /// with each request.
    verified: Cache<blake3::Hash, Verified>,
}

#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    not_before: Timestamp,
    until: Timestamp,
    /// The keys that it was verified with: a key that is taken away takes its tokens along.
    keys: blake3::Hash,
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no signed JWT, or its signature is not by one of our keys.
    #[error("The token is not a JWT that a key of this shop has signed with HS256 or RS256: sign in again.")]
    NotSigned,
    /// It is past its time.
    #[error("The token has expired: sign in again.")]
    Expired,
    /// Its time has not come.
    #[error("The token is not valid yet: check the clock of the one who made it.")]
    NotYet,
    /// It is for others.
    #[error("The token is for another shop: its {0} is not ours.")]
    Foreign(&'static str),
    /// A claim is missing, or is not what it has to be.
    #[error("The token's claim {claim} has to be {expected}.")]
    Claim {
        /// Its name.
        claim: String,
        /// What it has to be.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood; we know none (RFC 7515, 4.1.11).
    crit: Option<Value>,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// All problems with them, each with its key in the configuration.
    pub fn new(config: &JwtConfig) -> Result<Self, Vec<String>> {
        let keys = Keys::read(config)?;
        let verified = Cache::new(config.cached_tokens);
        Ok(Self { config: config.clone(), keys: ArcSwap::from_pointee(keys), verified })
    }

    /// Reads the files of the keys again, and uses what is there now; answers whether it is another set.
    ///
    /// # Errors
    /// All problems with them; the keys stay as they are.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let keys = Keys::read(&self.config)?;
        let changed = keys.digest != self.keys.load().digest;
        if changed {
            self.keys.store(Arc::new(keys));
            self.verified.clear();
        }
        Ok(changed)
    }

    /// Looks at the files of the keys again and again until `stop` becomes true.
    pub async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while timeout(self.config.reload(), stop.wait_for(|stop| *stop)).await.is_err() {
            let jwt = Arc::clone(&self);
            match spawn_blocking(move || jwt.reload()).await {
                Ok(Ok(true)) => tracing::info!("the keys of the identity provider were read again"),
                Ok(Ok(false)) => {}
                Ok(Err(problems)) => {
                    let problems = problems.join("; ");
                    tracing::error!(problems, "the keys of the identity provider stay as they were");
                }
                Err(error) => tracing::error!(%error, "the keys of the identity provider stay as they were"),
            }
        }
    }

    /// Who a token stands for.
    ///
    /// # Errors
    /// See [`TokenError`]; its text says what to do and shows nothing of the token.
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

    /// Whether a text has the form of a JWT; no token of another kind has dots.
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

    /// The claims of a token that one of `keys` has signed.
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

    /// What the provider says about the account, for the guards.
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

/// The time that a claim names, if it is there; seconds, which may have a fraction.
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
