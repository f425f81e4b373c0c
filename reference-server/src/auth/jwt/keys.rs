//! The keys of an identity provider, each bound to one algorithm.

use std::{fmt, fs, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

use crate::config::JwtConfig;

/// The shortest secret for HS256, in bytes: the size of its hash (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;

/// Keys with the digest of their files.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// The digest of all key files; it changes when a file does.
    pub(super) digest: blake3::Hash,
}

/// A key bound to its algorithm. A token with another algorithm is not verified with it, so a
/// public key can never be misused as an HMAC secret.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the configured key files.
    ///
    /// # Errors
    /// Each unusable file, with its configuration key.
    pub(super) fn read(config: &JwtConfig) -> Result<Self, Vec<String>> {
        let (mut keys, mut problems, mut digest) = (Vec::new(), Vec::new(), blake3::Hasher::new());
        let mut file = |name: &str, file: &Option<_>, parse: fn(&[u8]) -> Result<Vec<Key>, String>| {
            let Some(file): Option<&Path> = file.as_deref() else { return };
            let read = fs::read(file).map_err(|error| error.to_string());
            let parsed = read.and_then(|content| {
                digest.update(&(content.len() as u64).to_be_bytes()).update(&content);
                parse(&content)
            });
            match parsed {
                Ok(parsed) => keys.extend(parsed),
                Err(problem) => problems.push(format!("identity.jwt.{name}: {}: {problem}", file.display())),
            }
        };
        file("hs256_secret_file", &config.hs256_secret_file, secret);
        file("rs256_key_file", &config.rs256_key_file, public_key);
        file("jwks_file", &config.jwks_file, key_set);
        if problems.is_empty() { Ok(Self { keys, digest: digest.finalize() }) } else { Err(problems) }
    }

    /// Verifies a signature with the keys of this algorithm, and of this id if both have one.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, signature: &str, message: &[u8]) -> bool {
        let fits = |key: &&Key| {
            name(key.algorithm) == algorithm
                && key.id.as_deref().zip(id).is_none_or(|(key, token)| key == token)
        };
        let signed = |key: &Key| crypto::verify(signature, message, &key.key, key.algorithm).unwrap_or(false);
        self.keys.iter().filter(fits).any(signed)
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        _ => "unsupported",
    }
}

fn secret(content: &[u8]) -> Result<Vec<Key>, String> {
    let secret = content.trim_ascii_end();
    if secret.starts_with(b"-----BEGIN") {
        return Err("is a PEM key, which must not be an HS256 secret; set it as rs256_key_file".to_owned());
    }
    if secret.len() < SHORTEST_SECRET {
        return Err(format!("is too short: an HS256 secret must have at least {SHORTEST_SECRET} bytes"));
    }
    Ok(vec![Key { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }])
}

fn public_key(content: &[u8]) -> Result<Vec<Key>, String> {
    let key = DecodingKey::from_rsa_pem(content).map_err(|_| "is not an RSA public key in PEM".to_owned())?;
    Ok(vec![Key { id: None, algorithm: Algorithm::RS256, key }])
}

fn key_set(content: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(content).map_err(|error| {
        format!("is not a JSON Web Key Set: line {}, column {}", error.line(), error.column())
    })?;
    let keys: Vec<_> = set.keys.iter().filter_map(key).collect();
    if keys.is_empty() {
        return Err("contains no usable HS256 or RS256 signature key".to_owned());
    }
    Ok(keys)
}

/// Converts a key of a set; `None` for other algorithms or uses, which a set may contain too.
fn key(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, &jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
        (AlgorithmParameters::OctetKey(_), None | Some(KeyAlgorithm::HS256)) => Algorithm::HS256,
        _ => return None,
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let is_short = algorithm == Algorithm::HS256
        && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SHORTEST_SECRET);
    (!is_short).then(|| Key { id: jwk.common.key_id.clone(), algorithm, key })
}
