//! Which tokens are accepted and which are rejected.

use std::{fs, path::PathBuf, sync::LazyLock, time::Duration};

use flashsale_core::domain::IdentityKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto, jwk::Jwk};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
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
        Jwt::new(&self.config, issuer(), None).unwrap()
    }
}

fn issuer() -> Issuer {
    Issuer::new(&IdentityKey::new([7; 32]), "https://id.shop.example")
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
    let user = UserId::new(user).unwrap();
    let identity = Identity::of_number(user).unwrap();
    Caller { user, identity, name: Name::new(name).unwrap(), account: Account::default() }
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
        (Files::hs256(), hs256(&with("iat", json!(now_and(60))))),
        (Files::hs256(), hs256(&with("iat", json!("now")))),
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
    let id = "the user's id: a text of 1 to 255 bytes, or a whole number";
    let jwt = Files::hs256().jwt();
    for (name, value, error) in [
        ("exp", json!(now_and(-30)), TokenError::Expired),
        ("exp", Value::Null, claim("exp", time)),
        ("exp", json!("never"), claim("exp", time)),
        ("exp", json!(-1), claim("exp", time)),
        ("exp", json!(1e300), claim("exp", time)),
        ("nbf", json!(now_and(31)), TokenError::NotYet),
        ("nbf", json!([]), claim("nbf", time)),
        ("iss", json!("https://id.other.example"), TokenError::Foreign("iss".to_owned())),
        ("iss", Value::Null, TokenError::Foreign("iss".to_owned())),
        ("iss", json!(["https://id.shop.example"]), TokenError::Foreign("iss".to_owned())),
        ("aud", json!("other"), TokenError::Foreign("aud".to_owned())),
        ("aud", Value::Null, TokenError::Foreign("aud".to_owned())),
        ("aud", json!([["shop"], null]), TokenError::Foreign("aud".to_owned())),
        ("sub", json!(""), claim("sub", id)),
        ("sub", json!("a".repeat(256)), claim("sub", id)),
        ("sub", json!(-7), claim("sub", id)),
        ("sub", json!(1.5), claim("sub", id)),
        ("sub", json!(112_233_445_566_778_899_001_f64), claim("sub", id)),
        ("sub", json!(["42"]), claim("sub", id)),
        ("sub", Value::Null, claim("sub", id)),
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
fn any_text_identifies_a_user() {
    let jwt = Files::hs256().jwt();
    let user = |sub: Value| jwt.verify(&hs256(&with("sub", sub)), NOW).unwrap();
    let texts = [
        "8b597663-8bbf-4d40-99c7-e35f64710394",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "112233445566778899001",
        "9223372036854775808",
        "ann@mail.example",
        "李雷",
        "042",
        "0",
    ];
    for text in texts {
        let caller = user(json!(text));
        assert_eq!(caller.identity.as_str(), text);
        assert!(caller.user.is_digest() && caller.user == issuer().user(&caller.identity), "{text}");
    }
    assert_eq!(user(json!(9_223_372_036_854_775_808_u64)).user, user(json!("9223372036854775808")).user);
    assert_eq!(user(json!("9223372036854775807")).user.value(), i64::MAX as u64);
}

#[test]
fn a_name_is_cleaned_or_replaced() {
    let jwt = Files::hs256().jwt();
    let named = |claims: &Value| jwt.verify(&hs256(claims), NOW).unwrap().name.as_str().to_owned();
    for (name, shown) in [
        (json!("x".repeat(121)), "x".repeat(120)),
        (json!("Li\tLei"), "Li Lei".to_owned()),
        (json!("Li\u{202E}Lei"), "LiLei".to_owned()),
        (json!(5), "42".to_owned()),
        (json!({ "first": "Li" }), "42".to_owned()),
        (json!(" "), "42".to_owned()),
        (json!(""), "42".to_owned()),
        (Value::Null, "42".to_owned()),
    ] {
        assert_eq!(named(&with("name", name.clone())), shown, "{name}");
    }
    let mut nameless = with("sub", json!("\u{1}"));
    nameless["name"] = json!("\u{202E}");
    assert!(named(&nameless).parse::<UserId>().unwrap().is_digest(), "the number is left");
}

#[test]
fn the_audience_may_be_in_another_claim() {
    let mut files = Files::hs256();
    files.config.audience_claim = "client_id".to_owned();
    let jwt = files.jwt();
    let mut claims = with("client_id", json!("shop"));
    claims["aud"] = json!("an API");
    assert!(jwt.verify(&hs256(&claims), NOW).is_ok());
    claims["client_id"] = json!("another app");
    assert_eq!(jwt.verify(&hs256(&claims), NOW), Err(TokenError::Foreign("client_id".to_owned())));
}

/// A token and its public key in PEM and as a JWK.
fn signed(algorithm: Algorithm, name: &str, pair: &KeyPair) -> (String, String, Value) {
    let pem = pair.serialize_pem();
    let key = match name.as_bytes()[0] {
        b'E' if name.starts_with("Ed") => EncodingKey::from_ed_pem(pem.as_bytes()),
        b'E' => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    };
    let key = key.unwrap();
    let token = token_with(&json!({ "alg": name }), &claims(), &key, algorithm);
    let public = pair.public_key_pem();
    let decoding = match name.as_bytes()[0] {
        b'E' if name.starts_with("Ed") => DecodingKey::from_ed_pem(public.as_bytes()),
        b'E' => DecodingKey::from_ec_pem(public.as_bytes()),
        _ => DecodingKey::from_rsa_pem(public.as_bytes()),
    };
    let jwk = Jwk::from_decoding_key(&decoding.unwrap(), Some(algorithm)).unwrap();
    (token, public, serde_json::to_value(jwk).unwrap())
}

#[test]
fn keys_of_every_common_algorithm_verify_their_own_tokens_only() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let pair = |kind| KeyPair::generate_for(kind).unwrap();
    let (p256, p384, ed) =
        (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P384_SHA384), pair(&PKCS_ED25519));
    let rsa = &PAIRS[0];
    let all = [
        (RS256, "RS256", rsa),
        (RS384, "RS384", rsa),
        (RS512, "RS512", rsa),
        (PS256, "PS256", rsa),
        (PS384, "PS384", rsa),
        (PS512, "PS512", rsa),
        (ES256, "ES256", &p256),
        (ES384, "ES384", &p384),
        (EdDSA, "EdDSA", &ed),
    ]
    .map(|(algorithm, name, pair)| (name, signed(algorithm, name, pair)));
    let accepts = |files: &Files| -> Vec<&str> {
        let jwt = files.jwt();
        all.iter().filter(|(_, (token, ..))| jwt.verify(token, NOW).is_ok()).map(|(name, _)| *name).collect()
    };
    for (name, (_, pem, jwk)) in &all {
        let mut files = Files::new();
        files.config.jwks_file = files.write("set.json", &json!({ "keys": [jwk] }).to_string());
        assert_eq!(accepts(&files), [*name], "a key set whose key names its algorithm");
        // Some providers name no algorithm.
        let mut nameless = jwk.clone();
        nameless.as_object_mut().unwrap().remove("alg");
        let family = |other: &&str| {
            other == name
                || (other.ends_with(char::is_numeric)
                    && "RP".contains(&name[..1])
                    && "RP".contains(&other[..1]))
        };
        let family: Vec<_> = all.iter().map(|(name, _)| *name).filter(family).collect();
        files.write("set.json", &json!({ "keys": [nameless] }).to_string());
        assert_eq!(accepts(&files), family);

        let mut files = Files::new();
        let directory = files.directory.path().join("keys");
        fs::create_dir_all(directory.join("..data")).unwrap();
        fs::write(directory.join("key.pem"), pem).unwrap();
        files.config.keys_directory = Some(directory);
        assert_eq!(accepts(&files), family, "a PEM file in a directory");
    }
}

#[test]
fn keys_are_read_from_a_directory() {
    let mut files = Files::new();
    let directory = files.directory.path().join("keys");
    files.config.keys_directory = Some(directory.clone());
    let problem = || Jwt::problems(&files.config).concat();
    assert!(problem().contains("identity.jwt.keys_directory: "), "{}", problem());
    fs::create_dir(&directory).unwrap();
    assert!(problem().contains("has 0 files"), "{}", problem());
    fs::write(directory.join(".hidden"), "no key").unwrap();
    fs::write(directory.join("one.pem"), PAIRS[0].public_key_pem()).unwrap();
    let jwt = files.jwt();
    let tokens = [rs256(&claims(), 0, Some("one")), rs256(&claims(), 1, Some("two"))];
    assert!(jwt.verify(&tokens[0], NOW).is_ok() && jwt.verify(&tokens[1], NOW).is_err());
    fs::write(directory.join("two.pem"), PAIRS[1].public_key_pem()).unwrap();
    assert_eq!(jwt.reload(), Ok(true));
    assert!(tokens.iter().all(|token| jwt.verify(token, NOW).is_ok()));
    fs::write(directory.join("three.pem"), "no key").unwrap();
    fs::write(directory.join("README"), "keys of the provider").unwrap();
    let problems = jwt.reload().unwrap_err();
    assert!(problems.len() == 2 && problems[0].contains("README: ends in"), "{problems:?}");
    assert!(tokens.iter().all(|token| jwt.verify(token, NOW).is_ok()), "the keys stay");
    fs::remove_file(directory.join("README")).unwrap();
    fs::remove_file(directory.join("three.pem")).unwrap();
    fs::remove_file(directory.join("one.pem")).unwrap();
    assert_eq!(jwt.reload(), Ok(true));
    assert!(jwt.verify(&tokens[0], NOW).is_err() && jwt.verify(&tokens[1], NOW).is_ok());
}

#[test]
fn key_sources_are_bounded() {
    let mut files = Files::new();
    files.config.jwks_file = files.write("set.json", &format!("{{\"keys\": [{}]}}", " ".repeat(256 << 10)));
    assert!(Jwt::problems(&files.config)[0].contains("larger than 256 KiB"));
    let jwk = serde_json::to_value(Jwk::from_encoding_key(&private(0), Algorithm::RS256).unwrap()).unwrap();
    files.write("set.json", &json!({ "keys": vec![jwk; 65] }).to_string());
    assert!(Jwt::problems(&files.config)[0].contains("contains 65 keys, at most 64"));
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
    let other = json!({ "kty": "EC", "crv": "secp256k1", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
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
    let problems = Jwt::problems(&files.config);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(!problems.concat().contains("too short for HS256"), "{problems:?}");
    files.config.hs256_secret_file = files.write("secret", &PAIRS[0].public_key_pem());
    assert!(Jwt::problems(&files.config)[0].contains("rs256_key_file"));
    let jwt = Files::hs256().jwt();
    assert!(!format!("{jwt:?}").contains(SECRET));
}
