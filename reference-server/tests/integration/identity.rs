//! Sign-in with tokens of the shop's identity provider.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::domain::Clock as _;
use flashsale_testkit::client::Answer;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{Method, StatusCode};
use reference_server::config::{Config, OperatorRole};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::shop::{Shop, catalogue, expect};

pub(crate) const SECRET: &str = "a secret of the provider of the tests";

pub(crate) fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_signs_in_through_the_identity_provider() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let shop = Shop::with(|config| {
        config.identity.demo = false;
        config.identity.jwt.hs256_secret_file = Some(file);
        config.identity.jwt.issuer = Some("https://id.shop.example".to_owned());
        config.identity.jwt.audience = Some("shop".to_owned());
    })
    .await;
    let now = shop.clock.now().as_millis() / 1_000;
    let claims =
        json!({ "iss": "https://id.shop.example", "aud": "shop", "sub": "7", "name": "Li", "exp": now + 60 });
    let ask = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        shop.call(Method::POST, "/v1/activities/1/offers/11/ticket", &headers, None).await
    };
    let answer = ask(&token(&claims)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    let order = shop.order_with(answer.text("ticket"), &[], 1).await;
    assert_eq!(order.status, StatusCode::CREATED, "{order}");
    let path = format!("/v1/orders/{}", order.text("order_id"));
    let read = async |user: &str| {
        let mut claims = claims.clone();
        claims["sub"] = user.into();
        let authorization = format!("Bearer {}", token(&claims));
        shop.call(Method::GET, &path, &[("authorization", &authorization)], None).await
    };
    assert_eq!(read("7").await.status, StatusCode::OK);
    expect(&read("8").await, 404, "not_found");

    let mut other = claims.clone();
    other["aud"] = "another shop".into();
    for (token, detail) in [
        (token(&other), "aud"),
        (format!("{}x", token(&claims)), "sign in again"),
        ("no-jwt-at-all".to_owned(), "sign in again"),
    ] {
        let answer = ask(&token).await;
        expect(&answer, 401, "unauthorized");
        assert!(answer.text("detail").contains(detail), "{answer}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    shop.clock.advance(std::time::Duration::from_secs(91));
    let answer = ask(&token(&claims)).await;
    expect(&answer, 401, "unauthorized");
    assert!(answer.text("detail").contains("expired"), "{answer}");
    let identity = json!({ "user_id": "7", "user_name": "Li" });
    expect(&shop.call(Method::POST, "/v1/sessions", &[], Some(&identity)).await, 404, "not_found");
    shop.close().await;
}

/// The guards use the account claims of the identity provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_account_must_solve_a_challenge() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let shop = Shop::with(|config| {
        config.identity.jwt.hs256_secret_file = Some(file);
        config.identity.jwt.issuer = Some("https://id.shop.example".to_owned());
        config.identity.jwt.audience = Some("shop".to_owned());
        config.identity.jwt.created_claim = Some("created".to_owned());
        config.identity.jwt.level_claim = Some("level".to_owned());
    })
    .await;
    let now = shop.clock.now().as_millis() / 1_000;
    let ask = async |user: u64, created: u64, level: Value| {
        let token = token(&json!({
            "iss": "https://id.shop.example", "aud": "shop", "sub": user, "exp": now + 60,
            "created": created, "level": level,
        }));
        let headers = [("authorization", &*format!("Bearer {token}"))];
        shop.call(Method::POST, "/v1/activities/1/offers/11/ticket", &headers, None).await
    };
    expect(&ask(1, now - 60, json!(0)).await, 403, "challenge_required");
    let known = ask(2, now - 90 * 86_400, json!(3)).await;
    assert_eq!(known.status, StatusCode::OK, "{known}");
    expect(&ask(3, now, json!("gold")).await, 401, "unauthorized");
    shop.close().await;
}

/// Configures a provider that signs with [`SECRET`].
fn provider(config: &mut Config, directory: &Path) {
    let file = directory.join("secret");
    std::fs::write(&file, SECRET).unwrap();
    config.identity.demo = false;
    config.identity.jwt.hs256_secret_file = Some(file);
    config.identity.jwt.issuer = Some("https://id.example".to_owned());
    config.identity.jwt.audience = Some("shop".to_owned());
}

/// A buyer with the token of these claims, which lack `iss` and `exp`.
struct Holder<'a> {
    shop: &'a Shop,
    authorization: String,
}

impl<'a> Holder<'a> {
    fn of(shop: &'a Shop, mut claims: Value) -> Self {
        claims["iss"] = "https://id.example".into();
        claims["exp"] = (shop.clock.now().as_millis() / 1_000 + 3_600).into();
        Self { shop, authorization: format!("Bearer {}", token(&claims)) }
    }

    async fn call(&self, method: Method, path: &str) -> Answer {
        self.shop.call(method, path, &[("authorization", &self.authorization)], None).await
    }

    async fn ask_for_ticket(&self) -> Answer {
        self.call(Method::POST, "/v1/activities/1/offers/11/ticket").await
    }

    async fn buy(&self) -> String {
        let ticket = self.ask_for_ticket().await;
        assert_eq!(ticket.status, StatusCode::OK, "{ticket}");
        let order = self.shop.order_with(ticket.text("ticket"), &[], 1).await;
        assert_eq!(order.status, StatusCode::CREATED, "{order}");
        order.text("order_id").to_owned()
    }
}

async fn support(shop: &Shop, path: &str) -> Answer {
    shop.operate(OperatorRole::Auditor, Method::GET, path, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_as_providers_make_them_may_order() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::with(|config| provider(config, directory.path())).await;
    let now = shop.clock.now().as_millis() / 1_000;
    let claims =
        |sub: &str, name: Value, iat: u64| json!({ "aud": "shop", "sub": sub, "name": name, "iat": iat });
    let li = || json!("Li Lei");
    for (sub, name, iat) in [
        ("8b597663-8bbf-4d40-99c7-e35f64710394", li(), now),
        ("auth0|5f7c8ec7c33c6c004bbafe82", li(), now),
        ("112233445566778899001", li(), now),
        ("ann+tea@mail.example", li(), now),
        ("李雷 / 1", li(), now),
        ("41", json!("x".repeat(121)), now),
        ("42", json!("Li\tLei"), now),
        ("43", json!(5), now),
        ("44", li(), now + 60),
    ] {
        let buyer = Holder::of(&shop, claims(sub, name, iat));
        let order = buyer.buy().await;
        let own = buyer.call(Method::GET, &format!("/v1/orders/{order}")).await;
        assert_eq!(own.status, StatusCode::OK, "{sub}: {own}");
        // Support finds the order by the text, and reads the text on it.
        let one = support(&shop, &format!("/v1/orders/{order}")).await;
        assert_eq!(one.body["user_id"], sub, "{one}");
        let encoded: String = sub.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let found = support(&shop, &format!("/v1/orders?user_id={encoded}")).await;
        assert_eq!(found.body["items"][0], one.body, "{found}");
        let number = one.text("user_number");
        let found = support(&shop, &format!("/v1/orders?user_number={number}")).await;
        assert_eq!(found.body["items"], json!([one.body]), "one order of one user: {found}");
        assert_eq!(number == sub, sub.len() < 3, "only numbers keep their number: {number}");
    }
    let both = support(&shop, "/v1/orders?user_id=42&user_number=42").await;
    expect(&both, 400, "invalid_request");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_without_an_audience_names_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::with(|config| {
        provider(config, directory.path());
        config.identity.jwt.audience_claim = "client_id".to_owned();
    })
    .await;
    let buyer = Holder::of(&shop, json!({ "sub": "42", "name": "Li Lei", "client_id": "shop" }));
    buyer.buy().await;
    let other = Holder::of(&shop, json!({ "sub": "42", "name": "Li Lei", "client_id": "x", "aud": "shop" }));
    let refused = other.ask_for_ticket().await;
    expect(&refused, 401, "unauthorized");
    assert!(refused.text("detail").contains("client_id"), "{refused}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_identifies_the_same_user_after_a_restart_until_it_is_erased() {
    let (directory, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = async || {
        Shop::start(|config| {
            provider(config, directory.path());
            config.storage.directory = data.path().to_owned();
        })
        .await
    };
    let shop = open().await;
    shop.import(&catalogue()).await;
    let claims = json!({ "aud": "shop", "sub": "auth0|li", "name": "Li Lei" });
    let order = Holder::of(&shop, claims.clone()).buy().await;
    let before = support(&shop, &format!("/v1/orders/{order}")).await.body;
    shop.close().await;

    let shop = open().await;
    let buyer = Holder::of(&shop, claims);
    assert_eq!(buyer.call(Method::GET, &format!("/v1/orders/{order}")).await.status, StatusCode::OK);
    let stranger = Holder::of(&shop, json!({ "aud": "shop", "sub": "auth0|Li" }));
    expect(&stranger.call(Method::GET, &format!("/v1/orders/{order}")).await, 404, "not_found");
    assert_eq!(support(&shop, &format!("/v1/orders/{order}")).await.body, before);

    let erased =
        shop.operate(OperatorRole::Operator, Method::DELETE, "/v1/users/auth0%7Cli/name", None).await;
    assert_eq!((erased.status, &erased.body["user_id"]), (StatusCode::OK, &json!("auth0|li")), "{erased}");
    let found = support(&shop, "/v1/orders?user_id=auth0%7Cli").await;
    let shown = &found.body["items"][0];
    assert_eq!((&shown["order_id"], &shown["user_id"]), (&json!(order), &Value::Null), "{found}");
    assert_eq!(shown["user_number"], before["user_number"]);
    // The buyer is still the owner, and has a text again once they ask for a ticket.
    assert_eq!(buyer.call(Method::GET, &format!("/v1/orders/{order}")).await.status, StatusCode::OK);
    buyer.buy().await;
    assert_eq!(support(&shop, &format!("/v1/orders/{order}")).await.body, before);
    shop.close().await;
}
