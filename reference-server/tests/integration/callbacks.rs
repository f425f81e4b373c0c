//! Payment callbacks: signatures, repeats, wrong amounts, late and unknown payments.

use std::time::Duration;

use flashsale_core::domain::Clock as _;
use hyper::{Method, StatusCode};
use reference_server::{auth::signature, config::Secret};
use serde_json::{Value, json};

use crate::shop::{Shop, expect};

fn captured(payment: &str, amount: u64, transaction: &str) -> Value {
    json!({
        "event_id": format!("event-{transaction}"), "payment_id": payment, "kind": "captured",
        "amount": amount, "currency": "CNY", "transaction_id": transaction, "channel": "a provider-specific field",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_signed_reports_are_accepted() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    let body = captured(&payment, 9900, "t1").to_string();
    let secret = shop.app.callbacks.values().next().unwrap().signing();
    let sign = |secret: &Secret, at| signature::sign(secret, at, body.as_bytes());
    let now = shop.clock.now();
    let forged = sign(&Secret::new(*b"somebody else's secret"), now);
    let (old, early) = (
        sign(secret, now.before(Duration::from_secs(302))),
        sign(secret, now.after(Duration::from_secs(302))),
    );
    for bad in ["", "t=1,v1=00", &forged, &old, &early] {
        expect(&shop.send_report("sandbox", bad, body.clone()).await, 401, "unauthorized");
    }
    let good = sign(secret, now);
    expect(&shop.send_report("sandbox", &good, body.replace("9900", "9901")).await, 401, "unauthorized");
    expect(&shop.send_report("other", &good, body.clone()).await, 404, "not_found");
    assert_eq!(buyer.read(&order).await["status"], "paying");
    for _ in 0..3 {
        let answer = shop.send_report("sandbox", &good, body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
    }
    assert_eq!(buyer.read(&order).await["status"], "paid");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_amount_is_refunded_and_the_order_stays_open() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    assert_eq!(shop.report(&captured(&payment, 1, "short")).await.status, StatusCode::OK);
    let seen = buyer.read(&order).await;
    assert_eq!(seen["status"], "paying");
    assert_eq!(seen["refund"]["amount"], json!({ "amount": 1, "currency": "CNY" }));
    assert_eq!(shop.report(&captured(&payment, 9900, "right")).await.status, StatusCode::OK);
    assert_eq!(buyer.read(&order).await["status"], "paid");
    // A second capture is refunded once.
    assert_eq!(shop.report(&captured(&payment, 9900, "twice")).await.status, StatusCode::OK);
    assert_eq!(buyer.read(&order).await["status"], "paid");
    assert_eq!(shop.stock(11).await["sold"], 1);
    shop.close().await;
}

/// The money was taken, so the provider must retry until the capture is booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_report_is_never_rejected_permanently() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    let report = |member: &str, value: Value| {
        let mut report = captured(&payment, 9900, "odd");
        report[member] = value;
        report
    };
    for odd in [
        json!({ "kind": "captured" }),
        json!([]),
        report("currency", json!("QQQ")),
        report("payment_id", json!("not a number")),
        report("event_id", json!("x".repeat(1_000))),
        report("kind", json!("refunded")),
    ] {
        let answer = shop.report(&odd).await;
        expect(&answer, 503, "unavailable");
        assert_eq!(answer.header("retry-after"), "60");
    }
    assert_eq!(buyer.read(&order).await["status"], "paying");
    // A capture in another currency is refunded.
    assert_eq!(shop.report(&report("currency", json!("USD"))).await.status, StatusCode::OK);
    let seen = buyer.read(&order).await;
    assert_eq!((&seen["status"], &seen["refund"]["amount"]["currency"]), (&json!("paying"), &json!("USD")));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_can_pay_again_after_a_failed_payment() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let first = buyer.pay(&order).await;
    let failed = shop.call(Method::POST, &format!("/sandbox/payments/{first}/fail"), &[], None).await;
    assert_eq!(failed.status, StatusCode::OK, "{failed}");
    assert_eq!(buyer.read(&order).await["status"], "pending");
    let second = buyer.pay(&order).await;
    assert_ne!(first, second);
    let captured = shop.call(Method::POST, &format!("/sandbox/payments/{second}/capture"), &[], None).await;
    assert_eq!(captured.status, StatusCode::OK, "{captured}");
    assert_eq!(buyer.read(&order).await["status"], "paid");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_capture_is_refunded() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    shop.clock.advance(Duration::from_secs(3_600));
    buyer.watch(&order, "expired").await;
    assert_eq!(shop.stock(11).await["available"], 100);
    let late = shop.call(Method::POST, &format!("/sandbox/payments/{payment}/capture"), &[], None).await;
    assert_eq!(late.status, StatusCode::OK, "{late}");
    let seen = buyer.read(&order).await;
    assert_eq!(seen["status"], "expired");
    assert_eq!(seen["refund"]["amount"]["amount"], 9900);
    // Upkeep issues the refund; the long poll returns when it has.
    let headers = [("authorization", buyer.session.as_str()), ("prefer", "wait=10")];
    let mut refund = seen["refund"]["status"].clone();
    while refund == "due" {
        let path = format!("/v1/orders/{order}");
        refund = shop.call(Method::GET, &path, &headers, None).await.body["refund"]["status"].clone();
    }
    assert_eq!(refund, "done");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_unknown_payments_are_accepted() {
    let shop = Shop::open().await;
    for _ in 0..2 {
        let answer = shop.report(&captured("4242", 9900, "unknown")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
    }
    let mut failure = captured("4242", 9900, "unknown");
    failure["kind"] = json!("failed");
    assert_eq!(shop.report(&failure).await.status, StatusCode::OK);
    expect(&shop.call(Method::POST, "/sandbox/payments/4242/capture", &[], None).await, 404, "not_found");
    expect(&shop.call(Method::POST, "/sandbox/payments/4242/other", &[], None).await, 404, "not_found");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_sandbox_its_routes_do_not_exist() {
    let shop = Shop::with(|config| config.payment.sandbox = false).await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    expect(&buyer.call(Method::POST, &format!("/v1/orders/{order}/payment")).await, 503, "unavailable");
    expect(&shop.call(Method::POST, "/sandbox/payments/1/capture", &[], None).await, 404, "not_found");
    expect(&shop.read("/sandbox/payments/1").await, 404, "not_found");
    expect(&shop.send_report("sandbox", "", "{}".to_owned()).await, 404, "not_found");
    shop.close().await;
}
