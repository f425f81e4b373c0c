//! Key sets at an address of the identity provider: fetched, refreshed, and kept during an outage.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flashsale_core::domain::{Clock as _, Identity, IdentityKey, Issuer, SystemClock};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use reference_server::{
    auth::jwt::{Jwt, TokenError},
    config::JwtConfig,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;

use crate::shop::{Shop, expect};

/// A provider with an https address that answers what a test sets.
struct Provider {
    address: SocketAddr,
    ca: String,
    answer: Arc<Mutex<(u16, String)>>,
    /// How many requests were answered.
    asked: watch::Receiver<u64>,
}

impl Provider {
    async fn open() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new((503, String::new())));
        let (count, asked) = watch::channel(0);
        let current = Arc::clone(&answer);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let current = Arc::clone(&current);
                let respond = service_fn(move |request: Request<Incoming>| {
                    let (status, body) = current.lock().unwrap().clone();
                    async move {
                        assert_eq!(request.uri().path(), "/.well-known/jwks.json");
                        let location = "https://elsewhere.example/keys";
                        let answer = Response::builder().status(status).header("location", location);
                        Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), respond)
                    .await;
                count.send_modify(|count| *count += 1);
            }
        });
        Self { address, ca: certificate.pem(), answer, asked }
    }

    fn answers(&self, status: u16, body: impl ToString) {
        *self.answer.lock().unwrap() = (status, body.to_string());
    }

    fn configure(&self, config: &mut JwtConfig, directory: &Path) {
        let ca = directory.join("ca.pem");
        fs::write(&ca, &self.ca).unwrap();
        config.jwks_url = Some(format!("https://{}/.well-known/jwks.json", self.address));
        config.jwks_ca_file = Some(ca);
        config.issuer = Some("https://id.example".to_owned());
        config.audience = Some("shop".to_owned());
        config.reload_seconds = 1;
    }

    /// Waits for the next request.
    async fn asked(&mut self) {
        self.asked.changed().await.unwrap();
    }
}

/// A signing key of the provider, with its public half as a JWK.
fn key(id: &str) -> (EncodingKey, Value) {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let public = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).unwrap();
    let mut jwk = Jwk::from_decoding_key(&public, Some(Algorithm::ES256)).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    (private, serde_json::to_value(jwk).unwrap())
}

fn token(key: &EncodingKey, id: &str) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
    let exp = SystemClock.now().as_millis() / 1_000 + 3_600;
    let claims = json!({ "iss": "https://id.example", "aud": "shop", "sub": "google-oauth2|1", "exp": exp });
    encode(&header, &claims, key).unwrap()
}

fn issuer() -> Issuer {
    Issuer::new(&IdentityKey::new([7; 32]), "https://id.example")
}

struct Case {
    provider: Provider,
    directory: TempDir,
    config: JwtConfig,
}

impl Case {
    async fn open() -> Self {
        let (provider, directory) = (Provider::open().await, tempfile::tempdir().unwrap());
        let mut config = JwtConfig::default();
        provider.configure(&mut config, directory.path());
        Self { provider, directory, config }
    }

    /// Starts as a server on the data directory does.
    fn start(&self) -> Arc<Jwt> {
        Arc::new(Jwt::new(&self.config, issuer(), Some(self.directory.path())).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_set_survives_an_outage_and_a_restart() {
    let case = Case::open().await;
    let now = SystemClock.now();
    let ((old, old_jwk), (new, new_jwk)) = (key("old"), key("new"));
    let (old, new) = (token(&old, "old"), token(&new, "new"));
    let jwt = case.start();
    assert!(jwt.awaited().is_some_and(|url| url.starts_with("https://")));
    assert!(jwt.fetch().await.unwrap_err()[0].contains("answered 503"));
    assert_eq!(jwt.verify(&old, now), Err(TokenError::NoKeys), "not the buyer's fault");
    assert_eq!(jwt.reload_failures(), 1);

    case.provider.answers(200, json!({ "keys": [old_jwk] }));
    assert_eq!(jwt.fetch().await, Ok(true));
    let caller = jwt.verify(&old, now).unwrap();
    assert_eq!(caller.user, issuer().user(&Identity::new("google-oauth2|1").unwrap()));
    assert_eq!((jwt.awaited(), jwt.fetch().await), (None, Ok(false)));

    let secret = json!({ "keys": [{ "kty": "oct", "k": "A".repeat(64) }] });
    let large = json!({ "keys": [old_jwk], "more": "x".repeat(300 << 10) });
    for (status, body, problem) in [
        (500, json!({ "keys": [new_jwk] }).to_string(), "answered 500"),
        (302, String::new(), "redirects are not followed"),
        (200, "<html>".to_owned(), "is not a JSON Web Key Set"),
        (200, json!({ "keys": [] }).to_string(), "contains no usable"),
        (200, secret.to_string(), "contains no public key"),
        (200, large.to_string(), "length limit exceeded"),
    ] {
        case.provider.answers(status, body);
        let problems = jwt.fetch().await.unwrap_err();
        assert!(
            problems[0].contains("identity.jwt.jwks_url") && problems[0].contains(problem),
            "{problems:?}"
        );
        assert!(jwt.verify(&old, now).is_ok(), "the last good set stays");
        assert!(case.start().verify(&old, now).is_ok(), "also for a server that starts now");
    }

    case.provider.answers(200, json!({ "keys": [new_jwk] }));
    assert_eq!(jwt.fetch().await, Ok(true));
    assert!(jwt.verify(&new, now).is_ok());
    assert_eq!(jwt.verify(&old, now), Err(TokenError::NotSigned), "a removed key is forgotten");

    // Another address is another provider: what was kept is not used for it.
    let mut moved = case.config.clone();
    moved.jwks_url = moved.jwks_url.map(|url| url.replace("jwks.json", "keys"));
    let moved = Jwt::new(&moved, issuer(), Some(case.directory.path())).unwrap();
    assert_eq!(moved.verify(&new, now), Err(TokenError::NoKeys));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unauthentic_address_gives_no_keys() {
    let mut case = Case::open().await;
    case.provider.answers(200, json!({ "keys": [key("any").1] }));
    let other = Case::open().await;
    case.config.jwks_ca_file = other.config.jwks_ca_file.clone();
    assert!(case.start().fetch().await.is_err(), "the certificate is of another CA");
    case.config.jwks_url = case.config.jwks_url.map(|url| url.replace("https", "http"));
    let problems = Jwt::problems(&case.config);
    assert!(problems[0].contains("https://"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_fetches_at_start_and_when_a_key_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let mut provider = Provider::open().await;
    let shop = Shop::with(|config| {
        config.identity.demo = false;
        provider.configure(&mut config.identity.jwt, directory.path());
    })
    .await;
    let ask = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        shop.call(hyper::Method::POST, "/v1/activities/1/offers/11/ticket", &headers, None).await
    };
    let ((old, old_jwk), (new, new_jwk)) = (key("old"), key("new"));
    let (old, new) = (token(&old, "old"), token(&new, "new"));
    provider.asked().await;
    expect(&ask(&old).await, 503, "unavailable");
    let ready = shop.call_operations("/readyz").await;
    expect(&ready, 503, "not_ready");
    assert!(ready.to_string().contains("have not been fetched yet"), "{ready}");

    // A failed fetch is repeated after `reload_seconds`, not after `jwks_refresh_seconds`.
    provider.answers(200, json!({ "keys": [old_jwk] }));
    provider.asked().await;
    while ask(&old).await.status != 200 {}
    assert!(!shop.call_operations("/readyz").await.to_string().contains("have not been fetched yet"));

    // So does a token that names a key that the set lacks.
    provider.answers(200, json!({ "keys": [old_jwk, new_jwk] }));
    while ask(&new).await.status != 200 {}
    shop.close().await;
}
