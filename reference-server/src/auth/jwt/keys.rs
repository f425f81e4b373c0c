//! The keys of an identity provider, each bound to its algorithms.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::config::JwtConfig;

/// The shortest secret for HS256, in bytes: the size of its hash (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;
/// The largest key file or key set, in bytes. Sets of large providers have about 20 KiB.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// The most keys. A token that names no key is verified with each until one fits.
const MAX_KEYS: usize = 64;
/// The algorithms for RSA keys that name none.
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Keys with the digest of their sources.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// The digest of all sources; it changes when a source does.
    pub(super) digest: blake3::Hash,
}

/// A key bound to its algorithms. A token with another algorithm is not verified with it, so a
/// public key can never be misused as an HMAC secret.
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the configured key files, and adds the keys of the set `fetched` from its address.
    ///
    /// # Errors
    /// Each unusable source, with its configuration key.
    pub(super) fn read(config: &JwtConfig, fetched: Option<&[u8]>) -> Result<Self, Vec<String>> {
        let mut reading = Reading { keys: Vec::new(), problems: Vec::new(), digest: blake3::Hasher::new() };
        reading.file("hs256_secret_file", config.hs256_secret_file.as_deref(), secret);
        reading.file("rs256_key_file", config.rs256_key_file.as_deref(), rs256_key);
        reading.file("jwks_file", config.jwks_file.as_deref(), key_set);
        if let Some(directory) = &config.keys_directory {
            reading.directory(directory);
        }
        if let (Some(content), Some(url)) = (fetched, &config.jwks_url) {
            reading.source("jwks_url", url, Ok(content.to_vec()), public_key_set);
        }
        let Reading { keys, mut problems, digest } = reading;
        if keys.len() > MAX_KEYS {
            problems.push(format!("identity.jwt: {} keys, at most {MAX_KEYS} are allowed", keys.len()));
        }
        if problems.is_empty() { Ok(Self { keys, digest: digest.finalize() }) } else { Err(problems) }
    }

    /// Returns whether a token that names the key `id` could be verified.
    pub(super) fn may_know(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref().is_none_or(|known| known == id))
    }

    /// Verifies a signature with the keys of this algorithm, and of this id if both have one.
    pub(super) fn verify(&self, algorithm: &str, id: Option<&str>, signature: &str, message: &[u8]) -> bool {
        let Ok(algorithm) = algorithm.parse::<Algorithm>() else { return false };
        let fits = |key: &&Key| {
            key.algorithms.contains(&algorithm)
                && key.id.as_deref().zip(id).is_none_or(|(key, token)| key == token)
        };
        let signed = |key: &Key| crypto::verify(signature, message, &key.key, algorithm).unwrap_or(false);
        self.keys.iter().filter(fits).any(signed)
    }
}

/// Returns whether `content` is a key set that tokens can be verified with.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_public_key_set(content: &[u8]) -> Result<(), String> {
    public_key_set(content).map(|_| ())
}

struct Reading {
    keys: Vec<Key>,
    problems: Vec<String>,
    digest: blake3::Hasher,
}

type Parse = fn(&[u8]) -> Result<Vec<Key>, String>;

impl Reading {
    fn file(&mut self, name: &str, file: Option<&Path>, parse: Parse) {
        if let Some(file) = file {
            self.source(name, &file.display().to_string(), read(file), parse);
        }
    }

    /// Reads each file of a directory. Names that start with a dot are skipped: mounted secrets of
    /// container platforms have such links to their versions.
    fn directory(&mut self, directory: &Path) {
        let name = "keys_directory";
        let files = match visible_files(directory) {
            Ok(files) => files,
            Err(error) => {
                let shown = directory.display();
                return self.problems.push(format!("identity.jwt.{name}: {shown}: {error}"));
            }
        };
        if files.is_empty() || files.len() > MAX_KEYS {
            let (shown, count) = (directory.display(), files.len());
            return self.problems.push(format!(
                "identity.jwt.{name}: {shown}: has {count} files; put 1 to {MAX_KEYS} keys (.pem) or key sets \
                 (.json) into it"
            ));
        }
        for file in files {
            let parse: Parse = match file.extension().and_then(|extension| extension.to_str()) {
                Some("pem") => public_key,
                Some("json") => key_set,
                _ => |_: &[u8]| Err("ends in neither .pem (a public key) nor .json (a key set)".to_owned()),
            };
            self.file(name, Some(&file), parse);
        }
    }

    fn source(&mut self, name: &str, shown: &str, content: io::Result<Vec<u8>>, parse: Parse) {
        let parsed = content.map_err(|error| error.to_string()).and_then(|content| {
            self.digest.update(&(content.len() as u64).to_be_bytes()).update(&content);
            parse(&content)
        });
        match parsed {
            Ok(parsed) => self.keys.extend(parsed),
            Err(problem) => self.problems.push(format!("identity.jwt.{name}: {shown}: {problem}")),
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        return Err(io::Error::other(format!("is larger than {} KiB", MAX_BYTES >> 10)));
    }
    Ok(content)
}

/// Lists the files of a directory by name.
fn visible_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn secret(content: &[u8]) -> Result<Vec<Key>, String> {
    let secret = content.trim_ascii_end();
    if secret.starts_with(b"-----BEGIN") {
        return Err("is a PEM key, which must not be an HS256 secret; set it as rs256_key_file".to_owned());
    }
    if secret.len() < SHORTEST_SECRET {
        return Err(format!("is too short: an HS256 secret must have at least {SHORTEST_SECRET} bytes"));
    }
    let key = DecodingKey::from_secret(secret);
    Ok(vec![Key { id: None, algorithms: vec![Algorithm::HS256], key }])
}

fn rs256_key(content: &[u8]) -> Result<Vec<Key>, String> {
    let key = DecodingKey::from_rsa_pem(content).map_err(|_| "is not an RSA public key in PEM".to_owned())?;
    Ok(vec![Key { id: None, algorithms: vec![Algorithm::RS256], key }])
}

/// Reads a PEM file with a key of any supported kind.
fn public_key(content: &[u8]) -> Result<Vec<Key>, String> {
    let key = if let Ok(key) = DecodingKey::from_rsa_pem(content) {
        Key { id: None, algorithms: RSA.into(), key }
    } else if let Ok(key) = DecodingKey::from_ed_pem(content) {
        Key { id: None, algorithms: vec![Algorithm::EdDSA], key }
    } else {
        let key = DecodingKey::from_ec_pem(content).ok();
        key.and_then(|key| {
            // The sizes of uncompressed points: one byte and two coordinates.
            let algorithm = match key.try_get_as_bytes().ok()?.len() {
                65 => Algorithm::ES256,
                97 => Algorithm::ES384,
                _ => return None,
            };
            Some(Key { id: None, algorithms: vec![algorithm], key })
        })
        .ok_or("is not a public key in PEM: give one of RSA, P-256, P-384 or Ed25519")?
    };
    Ok(vec![key])
}

fn public_key_set(content: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = key_set(content)?;
    // A secret at an address is none.
    keys.retain(|key| !key.algorithms.contains(&Algorithm::HS256));
    if keys.is_empty() { Err("contains no public key".to_owned()) } else { Ok(keys) }
}

fn key_set(content: &[u8]) -> Result<Vec<Key>, String> {
    /// Each key is parsed on its own: a set may contain kinds that this version does not know.
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<Value>,
    }
    let set: KeySet = serde_json::from_slice(content).map_err(|error| {
        format!("is not a JSON Web Key Set: line {}, column {}", error.line(), error.column())
    })?;
    let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = jwks.filter_map(|jwk| key(&jwk)).collect();
    if keys.is_empty() {
        return Err("contains no usable signature key (RSA, P-256, P-384, Ed25519 or HS256)".to_owned());
    }
    if keys.len() > MAX_KEYS {
        return Err(format!("contains {} keys, at most {MAX_KEYS} are allowed", keys.len()));
    }
    Ok(keys)
}

/// Converts a key of a set; `None` for other algorithms or uses, which a set may contain too.
fn key(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
        return None;
    }
    let possible = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA.to_vec(),
        AlgorithmParameters::OctetKey(_) => vec![Algorithm::HS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        _ => return None,
    };
    let named = jwk.common.key_algorithm;
    let algorithms: Vec<_> = possible
        .into_iter()
        .filter(|algorithm| named.is_none_or(|named| named == KeyAlgorithm::from(*algorithm)))
        .collect();
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let is_short = algorithms.contains(&Algorithm::HS256)
        && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SHORTEST_SECRET);
    (!algorithms.is_empty() && !is_short).then(|| Key { id: jwk.common.key_id.clone(), algorithms, key })
}
