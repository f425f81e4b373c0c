//! Sign-in with tokens of the shop's identity provider.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::domain::Clock as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::shop::{Shop, expect};

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
