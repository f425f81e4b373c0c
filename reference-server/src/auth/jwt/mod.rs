//! Tokens from the shop's identity provider: JWTs (RFC 7519).

mod keys;
mod remote;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::{
    admission::Account,
    domain::{Identity, Issuer, Name, Timestamp, UserId},
};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use self::{keys::Keys, remote::RemoteKeySet};
use crate::{auth::caller::Caller, config::JwtConfig};

/// The longest accepted token, in bytes.
const LONGEST: usize = 8 * 1024;

/// Verifies tokens of the identity provider.
pub struct Jwt {
    config: JwtConfig,
    issuer: Issuer,
    keys: ArcSwap<Keys>,
    remote: Option<RemoteKeySet>,
    /// Whether a token named a key that none of the sources has.
    key_is_missing: AtomicBool,
    /// Failed attempts to read or fetch the keys.
    reload_failures: AtomicU64,
    /// Verified tokens by digest, so that a signature is not verified again for every request.
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
    #[error("The token is not a JWT signed with a key of this shop: sign in again.")]
    NotSigned,
    /// No key verifies it, but the set at the address was never fetched.
    #[error("The keys of the identity provider have not been fetched yet; try again.")]
    NoKeys,
    /// It has expired.
    #[error("The token has expired: sign in again.")]
    Expired,
    /// It is not valid yet.
    #[error("The token is not valid yet: check the clock of the identity provider.")]
    NotYet,
    /// Its issuer or audience is not the configured one.
    #[error("The token is not for this shop: its {0} claim does not match.")]
    Foreign(String),
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
    /// Reads the key files, and what `directory` keeps of the key set at an address. `issuer`
    /// numbers the users.
    ///
    /// # Errors
    /// All problems with them, each with its configuration key.
    pub fn new(config: &JwtConfig, issuer: Issuer, directory: Option<&Path>) -> Result<Self, Vec<String>> {
        let (remote, keys) = sources(config, directory)?;
        Ok(Self {
            config: config.clone(),
            issuer,
            keys: ArcSwap::from_pointee(keys),
            remote,
            key_is_missing: AtomicBool::new(false),
            reload_failures: AtomicU64::new(0),
            verified: Cache::new(config.cached_tokens),
        })
    }

    /// Lists all problems with the key files and the address, each with its configuration key.
    pub fn problems(config: &JwtConfig) -> Vec<String> {
        sources(config, None).err().unwrap_or_default()
    }

    /// Returns the address of the key set if it was never fetched.
    pub fn awaited(&self) -> Option<&str> {
        self.remote.as_ref().filter(|remote| remote.last().is_none()).map(RemoteKeySet::url)
    }

    /// Returns the number of failed attempts to read or fetch the keys.
    pub fn reload_failures(&self) -> u64 {
        self.reload_failures.load(Ordering::Relaxed)
    }

    /// Reloads the key files. Returns whether the keys changed.
    ///
    /// # Errors
    /// All problems with them; the old keys stay in use.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let fetched = self.remote.as_ref().and_then(RemoteKeySet::last);
        let keys = Keys::read(&self.config, fetched.as_deref()).inspect_err(|_| {
            self.reload_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        let changed = keys.digest != self.keys.load().digest;
        if changed {
            self.keys.store(Arc::new(keys));
            self.verified.clear();
        }
        Ok(changed)
    }

    /// Fetches the key set at the configured address, if any, and reloads all keys. Returns whether
    /// they changed.
    ///
    /// # Errors
    /// All problems; what cannot be read stays as it was.
    pub async fn fetch(self: &Arc<Self>) -> Result<bool, Vec<String>> {
        let fetched = match &self.remote {
            Some(remote) => remote
                .fetch()
                .await
                .map_err(|problem| vec![format!("identity.jwt.jwks_url: {}: {problem}", remote.url())]),
            None => Ok(()),
        };
        let reloaded = self.reload_in_background().await;
        if matches!(reloaded, Ok(true)) && fetched.is_ok() {
            let jwt = Arc::clone(self);
            let kept = spawn_blocking(move || jwt.remote.as_ref().map_or(Ok(()), RemoteKeySet::keep)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "cannot keep the fetched JWT keys for the next start");
            }
        }
        let Err(problems) = fetched else { return reloaded };
        if reloaded.is_ok() {
            self.reload_failures.fetch_add(1, Ordering::Relaxed);
        }
        Err([problems, reloaded.err().unwrap_or_default()].concat())
    }

    /// Reloads the key files and fetches the key set periodically until `stop` becomes true.
    ///
    /// The set is fetched at once, then every `jwks_refresh_seconds`; sooner, at the next
    /// `reload_seconds`, after a failure or when a token names a key that is missing.
    pub async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut next_fetch = Instant::now();
        let mut failing = None;
        loop {
            let is_due = self.remote.is_some() && Instant::now() >= next_fetch;
            let reloaded = if is_due || self.key_is_missing.swap(false, Ordering::Relaxed) {
                let fetched = tokio::select! {
                    fetched = self.fetch() => fetched,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                if fetched.is_ok() {
                    next_fetch = Instant::now() + self.config.jwks_refresh();
                }
                fetched
            } else {
                self.reload_in_background().await
            };
            match reloaded {
                Ok(changed) => {
                    let recovered = failing.take().is_some();
                    if changed || recovered {
                        tracing::info!("reloaded the JWT keys");
                    }
                }
                // An outage is logged once, not at every attempt.
                Err(problems) if failing.as_ref() == Some(&problems) => {}
                Err(problems) => {
                    let text = problems.join("; ");
                    tracing::error!(problems = text, "cannot reload the JWT keys; keeping the old ones");
                    failing = Some(problems);
                }
            }
            if timeout(self.config.reload(), stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    async fn reload_in_background(self: &Arc<Self>) -> Result<bool, Vec<String>> {
        let jwt = Arc::clone(self);
        spawn_blocking(move || jwt.reload()).await.unwrap_or_else(|error| Err(vec![error.to_string()]))
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
        let unsigned = || if self.awaited().is_some() { TokenError::NoKeys } else { TokenError::NotSigned };
        let claims = self.signed(keys, token).ok_or_else(unsigned)?;
        let leeway = self.config.leeway();
        let until = time(&claims, "exp")?.ok_or_else(|| number_needed("exp"))?.after(leeway);
        // `iat` is no reason to refuse a token (RFC 7519, 4.1.6): clocks of providers may be ahead.
        let not_before = time(&claims, "nbf")?.unwrap_or(Timestamp::EPOCH).before(leeway);
        if now >= until {
            return Err(TokenError::Expired);
        }
        if now < not_before {
            return Err(TokenError::NotYet);
        }
        if claims.get("iss").and_then(Value::as_str) != self.config.issuer.as_deref() {
            return Err(TokenError::Foreign("iss".to_owned()));
        }
        let (claim, audience) = (&self.config.audience_claim, self.config.audience.as_deref());
        let ours = match claims.get(claim) {
            Some(Value::Array(list)) => list.iter().any(|one| one.is_string() && one.as_str() == audience),
            Some(Value::String(one)) => Some(one.as_str()) == audience,
            _ => false,
        };
        if !ours {
            return Err(TokenError::Foreign(claim.clone()));
        }
        let caller = Arc::new(self.caller(&claims)?);
        Ok(Verified { caller, not_before, until, keys: keys.digest })
    }

    /// Returns the claims of a token if one of `keys` verifies its signature.
    fn signed(&self, keys: &Keys, token: &str) -> Option<Map<String, Value>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if self.remote.is_some() && header.kid.as_deref().is_some_and(|id| !keys.may_know(id)) {
            self.key_is_missing.store(true, Ordering::Relaxed);
        }
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
        let identity = match claims.get(user_claim) {
            Some(Value::String(text)) => Identity::new(text).ok(),
            // A number beyond 2⁶⁴ has lost digits by now, and might be another user's.
            Some(Value::Number(number)) => number.as_u64().and_then(|id| Identity::new(&id.to_string()).ok()),
            _ => None,
        };
        let identity = identity.ok_or_else(|| TokenError::Claim {
            claim: user_claim.clone(),
            expected: "the user's id: a text of 1 to 255 bytes, or a whole number",
        })?;
        let user = self.issuer.user(&identity);
        let given = claims.get(name_claim).and_then(Value::as_str).and_then(Name::cleaned);
        let name = given.unwrap_or_else(|| name_of(&identity, user));
        Ok(Caller { user, identity, name, account: self.account(claims)? })
    }
}

/// Reads all sources of keys.
fn sources(
    config: &JwtConfig,
    directory: Option<&Path>,
) -> Result<(Option<RemoteKeySet>, Keys), Vec<String>> {
    let remote = RemoteKeySet::configured(config, directory);
    let fetched = remote.as_ref().ok().and_then(Option::as_ref).and_then(RemoteKeySet::last);
    match (remote, Keys::read(config, fetched.as_deref())) {
        (Ok(remote), Ok(keys)) => Ok((remote, keys)),
        (remote, keys) => Err(remote.err().into_iter().chain(keys.err().into_iter().flatten()).collect()),
    }
}

/// Returns the name of a user whose provider tells none that can be shown: the id.
fn name_of(identity: &Identity, user: UserId) -> Name {
    Name::cleaned(identity).unwrap_or_else(|| Name::new(&user.to_string()).expect("a number is a name"))
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
