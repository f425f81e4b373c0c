//! Which tokens are accepted and which are rejected.

use std::{fs, path::PathBuf, sync::LazyLock, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use tempfile::TempDir;

use super::*;

const SECRET: &str = "a secret of the tests that is long enough";

/// The configured key pair and a foreign one. Generating RSA keys is slow, so do it once.
static PAIRS: LazyLock<[KeyPair; 2]> = LazyLock::new(|| {
    [(), ()].map(|()| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
});

fn private(pair: usize) -> EncodingKey {
    EncodingKey::from_rsa_pem(PAIRS[pair].serialize_pem().as_bytes()).unwrap()
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn now_and(seconds: i64) -> i64 {
    1_800_000_000 + seconds
}

struct Files {
    directory: TempDir,
    config: JwtConfig,
}

impl Files {
    fn new() -> Self {
        let config = JwtConfig {
            issuer: Some("https://id.shop.example".to_owned()),
            audience: Some("shop".to_owned()),
            ..JwtConfig::default()
        };
        Self { directory: tempfile::tempdir().unwrap(), config }
    }

    fn write(&self, name: &str, content: &str) -> Option<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    }

    fn hs256() -> Self {
        let mut files = Self::new();
        files.config.hs256_secret_file = files.write("secret", &format!("{SECRET}\n"));
        files
    }

    fn rs256() -> Self {
        let mut files = Self::new();
        files.config.rs256_key_file = files.write("key.pem", &PAIRS[0].public_key_pem());
        files
    }

    fn jwt(&self) -> Jwt {
        Jwt::new(&self.config).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.shop.example", "aud": "shop", "sub": "42", "name": "韩梅梅",
        "exp": now_and(300), "nbf": now_and(-10), "iat": now_and(-10),
    })
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token_with(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    token_with(&json!({ "alg": "HS256", "typ": "JWT" }), claims, &key, Algorithm::HS256)
}

fn rs256(claims: &Value, pair: usize, id: Option<&str>) -> String {
    token_with(&json!({ "alg": "RS256", "kid": id }), claims, &private(pair), Algorithm::RS256)
}

fn caller(user: u64, name: &str) -> Caller {
    Caller { user: UserId::new(user).unwrap(), name: Name::new(name).unwrap(), account: Account::default() }
}

#[test]
fn tokens_of_the_provider_are_accepted() {
    for (files, token) in [
        (Files::hs256(), hs256(&claims())),
        (Files::rs256(), rs256(&claims(), 0, Some("any"))),
        (Files::hs256(), hs256(&with("aud", json!(["other", "shop"])))),
        (Files::hs256(), hs256(&with("sub", json!(42)))),
        (Files::hs256(), hs256(&with("nbf", Value::Null))),
        (Files::hs256(), hs256(&with("nbf", json!(now_and(29))))),
        (Files::hs256(), hs256(&with("exp", json!(1_799_999_970.5)))),
    ] {
        let jwt = files.jwt();
        for _again_from_the_cache in 0..2 {
            assert_eq!(*jwt.verify(&token, NOW).unwrap(), caller(42, "韩梅梅"));
        }
    }
    let mut files = Files::hs256();
    files.config.user_claim = "uid".to_owned();
    files.config.name_claim = "nick".to_owned();
    assert_eq!(*files.jwt().verify(&hs256(&with("uid", json!("7"))), NOW).unwrap(), caller(7, "7"));
}

#[test]
fn a_token_may_carry_account_age_and_customer_level() {
    let mut files = Files::hs256();
    let account =
        |files: &Files, claims: &Value| files.jwt().verify(&hs256(claims), NOW).map(|caller| caller.account);
    let mut told = with("created", json!(1_700_000_000));
    told["tier"] = json!(3);
    assert_eq!(account(&files, &told), Ok(Account::default()), "no claims are configured");

    files.config.created_claim = Some("created".to_owned());
    files.config.level_claim = Some("tier".to_owned());
    let created_at = Some(Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(account(&files, &told), Ok(Account { created_at, level: Some(3) }));
    assert_eq!(account(&files, &claims()), Ok(Account::default()));
    let claim = |claim: &str, expected| Err(TokenError::Claim { claim: claim.to_owned(), expected });
    for level in [json!("gold"), json!(-1), json!(256), json!(1.5), Value::Null] {
        told["tier"] = level;
        assert_eq!(account(&files, &told), claim("tier", "a level: 0 to 255"), "{told}");
    }
    let early = with("created", json!("last year"));
    assert_eq!(account(&files, &early), claim("created", "a time: seconds since 1970"));
}

#[test]
fn claims_are_checked() {
    let claim = |claim: &str, expected| TokenError::Claim { claim: claim.to_owned(), expected };
    let time = "a time: seconds since 1970";
    let id = "the user's id: a number from 1";
    let jwt = Files::hs256().jwt();
    for (name, value, error) in [
        ("exp", json!(now_and(-30)), TokenError::Expired),
        ("exp", Value::Null, claim("exp", time)),
        ("exp", json!("never"), claim("exp", time)),
        ("exp", json!(-1), claim("exp", time)),
        ("exp", json!(1e300), claim("exp", time)),
        ("nbf", json!(now_and(31)), TokenError::NotYet),
        ("nbf", json!([]), claim("nbf", time)),
        ("iat", json!(now_and(31)), TokenError::NotYet),
        ("iss", json!("https://id.other.example"), TokenError::Foreign("iss")),
        ("iss", Value::Null, TokenError::Foreign("iss")),
        ("iss", json!(["https://id.shop.example"]), TokenError::Foreign("iss")),
        ("aud", json!("other"), TokenError::Foreign("aud")),
        ("aud", Value::Null, TokenError::Foreign("aud")),
        ("aud", json!([["shop"], null]), TokenError::Foreign("aud")),
        ("sub", json!("ann"), claim("sub", id)),
        ("sub", json!(0), claim("sub", id)),
        ("sub", json!(-7), claim("sub", id)),
        ("sub", Value::Null, claim("sub", id)),
        ("name", json!(7), claim("name", "a name of 1 to 120 characters")),
        ("name", json!("x".repeat(121)), claim("name", "a name of 1 to 120 characters")),
    ] {
        assert_eq!(jwt.verify(&hs256(&with(name, value.clone())), NOW), Err(error), "{name}: {value}");
    }
    let token = hs256(&claims());
    assert!(jwt.verify(&token, NOW).is_ok());
    assert_eq!(
        jwt.verify(&token, NOW.after(Duration::from_secs(330))),
        Err(TokenError::Expired),
        "from the cache"
    );
    assert_eq!(
        jwt.verify(&token, NOW.before(Duration::from_secs(41))),
        Err(TokenError::NotYet),
        "from the cache"
    );
}

#[test]
fn only_the_key_determines_the_algorithm() {
    let (shared, public) = (Files::hs256().jwt(), Files::rs256().jwt());
    let refused = |jwt: &Jwt, token: &str| {
        assert_eq!(jwt.verify(token, NOW), Err(TokenError::NotSigned), "{token}");
    };
    let message = |header: Value| format!("{}.{}", part(&header), part(&claims()));
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = message(json!({ "alg": algorithm }));
        for jwt in [&shared, &public] {
            refused(jwt, &format!("{unsigned}."));
            refused(jwt, &unsigned);
            let (_, signature) =
                hs256(&claims()).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            refused(jwt, &format!("{unsigned}.{signature}"));
        }
    }
    // An attacker signs with the public key as an HS256 secret, in each of its encodings.
    let pem = PAIRS[0].public_key_pem();
    for secret in [pem.clone(), pem.trim_end().to_owned(), pem.replace('\n', "\r\n")] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        refused(&public, &token_with(&json!({ "alg": "HS256" }), &claims(), &key, Algorithm::HS256));
        refused(&public, &token_with(&json!({ "alg": "RS256" }), &claims(), &key, Algorithm::HS256));
    }
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = EncodingKey::from_base64_secret(&der).unwrap();
    refused(&public, &token_with(&json!({ "alg": "HS256" }), &claims(), &key, Algorithm::HS256));
    refused(&public, &hs256(&claims()));
    refused(&shared, &rs256(&claims(), 0, None));
    refused(&public, &rs256(&claims(), 1, None));
    // The right key with the wrong algorithm.
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    refused(&shared, &token_with(&json!({ "alg": "HS512" }), &claims(), &key, Algorithm::HS512));
    refused(&public, &token_with(&json!({ "alg": "RS512" }), &claims(), &private(0), Algorithm::RS512));
    refused(
        &shared,
        &token_with(&json!({ "alg": "HS256", "crit": ["x"] }), &claims(), &key, Algorithm::HS256),
    );
    // A key embedded in the token is not trusted.
    let jwk = Jwk::from_encoding_key(&private(1), Algorithm::RS256).unwrap();
    let header = json!({ "alg": "RS256", "jwk": jwk, "jku": "https://evil.example/keys" });
    refused(&public, &token_with(&header, &claims(), &private(1), Algorithm::RS256));
    for token in ["", ".", "..", "a.b.c", "....", &"a".repeat(10_000), &format!("{}.x", hs256(&claims()))] {
        refused(&shared, token);
    }
}

#[test]
fn no_token_with_a_flipped_bit_is_accepted() {
    for (jwt, token) in
        [(Files::hs256().jwt(), hs256(&claims())), (Files::rs256().jwt(), rs256(&claims(), 0, None))]
    {
        assert!(jwt.verify(&token, NOW).is_ok());
        let decoded =
            |text: &str| text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect::<Vec<_>>();
        let original = decoded(&token);
        let (mut tried, mut believed) = (0, 0);
        for place in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[place] ^= 1 << bit;
                let Ok(altered) = String::from_utf8(bytes) else { continue };
                // Unused bits of the last base64 character may decode to the same bytes.
                tried += 1;
                believed += usize::from(jwt.verify(&altered, NOW).is_ok() && decoded(&altered) != original);
            }
        }
        assert!(tried > 1_000 && believed == 0, "{believed} of {tried}");
    }
}

#[test]
fn a_changed_key_set_is_reloaded() {
    let mut files = Files::new();
    let jwk = |pair: usize, id: &str| {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&private(pair), Algorithm::RS256).unwrap()).unwrap();
        jwk["kid"] = id.into();
        jwk
    };
    let set = |keys: &[Value]| json!({ "keys": keys }).to_string();
    let other = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    files.config.jwks_file = files.write("jwks.json", &set(&[other.clone(), jwk(0, "one")]));
    let jwt = files.jwt();
    let (one, two) = (rs256(&claims(), 0, Some("one")), rs256(&claims(), 1, Some("two")));
    assert!(jwt.verify(&one, NOW).is_ok() && jwt.verify(&two, NOW).is_err());
    assert!(jwt.verify(&rs256(&claims(), 0, Some("two")), NOW).is_err(), "the id belongs to another key");
    assert!(jwt.verify(&rs256(&claims(), 0, None), NOW).is_ok());
    assert_eq!(jwt.reload(), Ok(false));

    files.write("jwks.json", &set(&[jwk(0, "one"), jwk(1, "two")]));
    assert_eq!(jwt.reload(), Ok(true));
    assert!(jwt.verify(&one, NOW).is_ok() && jwt.verify(&two, NOW).is_ok());

    for broken in ["{", "{\"keys\": []}", &set(&[other])] {
        files.write("jwks.json", broken);
        let problems = jwt.reload().unwrap_err();
        assert!(problems[0].starts_with("identity.jwt.jwks_file: "), "{problems:?}");
        assert!(jwt.verify(&one, NOW).is_ok(), "the keys stay");
    }
    files.write("jwks.json", &set(&[jwk(1, "two")]));
    assert_eq!(jwt.reload(), Ok(true));
    assert!(jwt.verify(&one, NOW).is_err(), "removing a key invalidates its cached tokens");
    assert!(jwt.verify(&two, NOW).is_ok());
}

#[test]
fn all_unusable_keys_are_reported_at_once() {
    let mut files = Files::new();
    files.config.hs256_secret_file = files.write("secret", "too short for HS256");
    files.config.rs256_key_file = files.write("key.pem", "no key");
    files.config.jwks_file = Some(files.directory.path().join("nowhere"));
    let problems = Jwt::new(&files.config).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(!problems.concat().contains("too short for HS256"), "{problems:?}");
    files.config.hs256_secret_file = files.write("secret", &PAIRS[0].public_key_pem());
    assert!(Jwt::new(&files.config).unwrap_err()[0].contains("rs256_key_file"));
    let jwt = Files::hs256().jwt();
    assert!(!format!("{jwt:?}").contains(SECRET));
}
