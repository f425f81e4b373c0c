//! No secret appears in the log of a complete purchase, including its failures.

use flashsale_core::domain::Clock as _;
use hyper::{Method, StatusCode};
use reference_server::{
    auth::signature,
    config::{Config, OperatorRole, TicketKey},
};
use serde_json::{Value, json};

use crate::{
    guards::worked,
    identity::token as jwt,
    log::Log,
    shop::{Shop, expect, token},
};

const SESSION_KEY: &str = "a key for sessions that nobody may read";
const TICKET_KEY: &str = "a key for tickets that nobody may read";
const CALLBACK_KEY: &str = "a key for callbacks that nobody may read";
const KEY: &str = "an-idempotency-key-of-its-own";
const IDENTITY: &str = "li.lei@mail.example";
const NAME: &str = "Ines 机密 Quicksilver";

/// Secrets that must not be logged, each with a description.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} is too short to search for");
        self.0.push((what, secret));
    }

    /// Returns the secrets in a text, in plain form or escaped as in Rust or JSON.
    fn shown_in(&self, text: &str) -> Vec<&'static str> {
        let forms = |secret: &str| {
            [secret.to_owned(), format!("{:?}", secret.as_bytes()), secret.escape_default().to_string()]
        };
        let shown =
            |secret: &String| forms(secret).iter().any(|form| text.contains(form.trim_matches(['[', ']'])));
        self.0.iter().filter(|(_, secret)| shown(secret)).map(|(what, _)| *what).collect()
    }
}

fn configure(config: &mut Config, directory: &std::path::Path) {
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    config.secrets.session_key_files = vec![file("session", SESSION_KEY)];
    config.secrets.ticket_keys = vec![TicketKey { id: 1, file: file("ticket", TICKET_KEY) }];
    let files = serde_json::from_value(json!(file("callback", CALLBACK_KEY))).unwrap();
    config.secrets.callback_files.insert("sandbox".to_owned(), files);
    config.identity.jwt.hs256_secret_file = Some(file("jwt", crate::identity::SECRET));
    config.identity.jwt.issuer = Some("https://id.shop.example".to_owned());
    config.identity.jwt.audience = Some("shop".to_owned());
    config.challenge.cost = 16;
    config.guard.proof_of_work_from = 0;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one purchase from start to end")]
async fn a_purchase_writes_no_secret_to_the_log() {
    let log = Log::start();
    let directory = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let shop = Shop::with(|config| {
        configure(config, directory.path());
        config.storage.in_memory = false;
        config.storage.directory = data.path().to_owned();
    })
    .await;
    let mut secrets = Secrets::default();
    for (what, secret) in [
        ("the session key", SESSION_KEY),
        ("the ticket key", TICKET_KEY),
        ("the callback key", CALLBACK_KEY),
        ("the secret of the identity provider", crate::identity::SECRET),
        ("an idempotency key", KEY),
        ("a buyer's name", NAME),
        ("a buyer's identity", IDENTITY),
        ("a wrong operations token", "an-operations-token-of-nobody"),
    ] {
        secrets.add(what, secret);
    }
    OperatorRole::ALL.into_iter().for_each(|role| secrets.add("an operations token", token(role)));

    // Buyers with a session, with a JWT, and with an invalid credential.
    let identity = json!({ "user_id": "71", "user_name": NAME });
    let signed_in = shop.call(Method::POST, "/v1/sessions", &[], Some(&identity)).await;
    let session = signed_in.text("token").to_owned();
    secrets.add("a session", &*session);
    let wrong = json!({ "user_id": "71", "user_name": [NAME] });
    expect(&shop.call(Method::POST, "/v1/sessions", &[], Some(&wrong)).await, 400, "invalid_request");
    let now = shop.clock.now().as_millis() / 1_000;
    let mut claims = json!({ "iss": "https://id.shop.example", "aud": "shop", "sub": IDENTITY, "name": NAME, "exp": now + 600 });
    let good = jwt(&claims);
    claims["aud"] = "another".into();
    let foreign = jwt(&claims);
    for (what, jwt) in [("a JWT", &good), ("a JWT for another audience", &foreign)] {
        secrets.add(what, jwt);
        secrets.add("a JWT signature", jwt.rsplit('.').next().unwrap());
    }

    let post = async |token: &str, path: &str, body: Option<&Value>| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("flashsale-device", "a-device-of-somebody")];
        shop.call(Method::POST, path, &headers, body).await
    };
    let offer = |path: &str| format!("/v1/activities/1/offers/11/{path}");
    expect(&post(&foreign, &offer("ticket"), None).await, 401, "unauthorized");
    let mut orders = Vec::new();
    for credential in [&session, &good] {
        expect(&post(credential, &offer("ticket"), None).await, 403, "challenge_required");
        let mut tickets = Vec::new();
        for right in [false, true, true] {
            let challenge = post(credential, &offer("challenge"), None).await.body;
            secrets.add("a challenge", challenge["challenge_id"].as_str().unwrap());
            let solution = if right {
                worked(&challenge)
            } else {
                json!({ "counter": 1, "derived_key": "00".repeat(32) })
            };
            let body = json!({ "challenge_id": challenge["challenge_id"], "solution": solution });
            let answer = post(credential, &offer("ticket"), Some(&body)).await;
            if right {
                assert_eq!(answer.status, StatusCode::OK, "{answer}");
                tickets.push(answer.text("ticket").to_owned());
            } else {
                expect(&answer, 403, "challenge_required");
            }
        }
        let [one, two] = tickets.try_into().unwrap();
        let key = [("idempotency-key", KEY), ("flashsale-device", "a-device-of-somebody")];
        let placed = shop.order_with(&one, &key, 1).await;
        assert_eq!(placed.status, StatusCode::CREATED, "{placed}");
        assert_eq!(shop.order_with(&one, &key, 1).await.status, StatusCode::OK);
        expect(&shop.order_with(&one, &key, 2).await, 422, "key_reused");
        expect(&shop.order_with(&two, &key[1..], 99).await, 409, "limit_reached");
        expect(&shop.order_with(&two, &[], 1).await, 403, "ticket_invalid");
        let forged = format!("{}AAAAAAAA", &two[..two.len() - 8]);
        expect(&shop.order_with(&forged, &key[1..], 1).await, 403, "ticket_invalid");
        [("a ticket", one), ("a ticket", two), ("a forged ticket", forged)]
            .into_iter()
            .for_each(|(what, ticket)| secrets.add(what, ticket));
        orders.push((credential, placed.text("order_id").to_owned()));
        secrets.add("a receipt", placed.text("receipt").to_owned());
    }

    // Provider reports: valid and invalid signatures, known and unknown payments, parsable or not.
    let callback = shop.app.callback_keys.values().next().unwrap().signing();
    for (credential, order) in &orders {
        let opened = post(credential, &format!("/v1/orders/{order}/payment"), None).await;
        let payment = opened.text("payment_id");
        for (number, (report, status)) in [
            (json!({ "event_id": "e0", "payment_id": payment, "kind": "captured", "amount": 1, "currency": "CNY", "transaction_id": format!("t0-{order}") }), 200),
            (json!({ "event_id": "e1", "payment_id": payment, "kind": "captured", "amount": 9900, "currency": "CNY", "transaction_id": format!("t1-{order}"), "payer": NAME }), 200),
            (json!({ "event_id": "e2", "payment_id": "1-0-7271", "kind": "captured", "amount": 1, "currency": "CNY", "transaction_id": format!("t2-{order}") }), 200),
            (json!({ "event_id": "e3", "payment_id": payment, "kind": NAME, "payer": NAME }), 200),
        ]
        .into_iter()
        .enumerate()
        {
            let mut report = report;
            report["event_id"] = format!("{order}-{number}").into();
            let body = report.to_string();
            let signature = signature::sign(callback, shop.clock.now(), body.as_bytes());
            secrets.add("a callback signature", signature.split("v1=").nth(1).unwrap());
            expect(&shop.send_report("sandbox", &signature, format!("{body} ")).await, 401, "unauthorized");
            let answer = shop.send_report("sandbox", &signature, body).await;
            assert_eq!(answer.status.as_u16(), status, "{answer}");
        }
        expect(&post(credential, &format!("/v1/orders/{order}/cancel"), None).await, 409, "wrong_state");
    }

    // Operators with valid and invalid tokens.
    let adjustment = json!({ "adjustment_id": "1", "delta": 5, "reason": "more came in" });
    for role in OperatorRole::ALL {
        shop.operate(role, Method::POST, &offer("adjustments"), Some(&adjustment)).await;
        let refund = json!({ "units_returned": true, "reason": "as asked" });
        shop.operate(role, Method::POST, &format!("/v1/orders/{}/refund", orders[0].1), Some(&refund)).await;
        shop.operate(role, Method::GET, "/v1/orders?user_id=71", None).await;
        shop.operate(role, Method::POST, "/v1/import", Some(&json!({ "skus": [{ "name": NAME }] }))).await;
        let unwritable = json!({ "directory": "/proc/nowhere" });
        shop.operate(role, Method::POST, "/v1/backup", Some(&unwritable)).await;
        shop.operate(role, Method::DELETE, &format!("/v1/users/{IDENTITY}/name"), None).await;
    }
    let mut stranger = flashsale_testkit::client::Client::new(shop.operations);
    let headers = [("authorization", "Bearer an-operations-token-of-nobody")];
    let answer = stranger.request(Method::GET, "/v1/audit", &headers, None).await.unwrap();
    expect(&answer, 401, "unauthorized");

    // A stopped ledger: these paths log the most.
    shop.app.close_stores.call().await.unwrap();
    let (_, order) = &orders[0];
    for path in ["payment", "cancel"] {
        post(&session, &format!("/v1/orders/{order}/{path}"), None).await;
    }
    let body = json!({ "event_id": "last", "payment_id": "1-0-7272", "kind": "captured", "amount": 1, "currency": "CNY", "transaction_id": "last" });
    // The queue keeps what the ledger cannot book.
    assert_eq!(shop.report(&body).await.status, StatusCode::OK);

    let log = log.text();
    for line in [
        "money for an unknown payment",
        "a payment callback is kept and not booked",
        "the ledger could not handle a request",
    ] {
        assert!(log.contains(line), "{line:?} was not logged, so this test proves nothing:\n{log}");
    }
    assert_eq!(secrets.shown_in(&log), [""; 0], "{log}");
    for (what, secret) in &secrets.0 {
        assert!(secrets.shown_in(&format!("… {secret:?} …")).contains(what), "{what} would be missed");
    }
}
