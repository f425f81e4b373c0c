//! Payment callbacks: signatures, repeats, wrong amounts, late and unknown payments.

use std::time::Duration;

use flashsale_core::domain::Clock as _;
use hyper::{Method, StatusCode};
use reference_server::{
    auth::signature,
    config::{OperatorRole, Secret},
};
use serde_json::{Value, json};

use crate::{
    metrics::scrape,
    shop::{Shop, expect},
};

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
    let secret = shop.app.callback_keys.values().next().unwrap().signing();
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
    let shop = Shop::with(|config| config.payment.captures_in_parts = false).await;
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

fn cny(amount: u64) -> Value {
    json!({ "amount": amount, "currency": "CNY" })
}

/// Money in parts pays once it is enough; what is too much goes back, and so does everything if the
/// rest never comes. Owner and operator see each amount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_amount_add_up() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    for _ in 0..2 {
        assert_eq!(shop.report(&captured(&payment, 4000, "a")).await.status, StatusCode::OK);
    }
    let seen = buyer.read(&order).await;
    assert_eq!((&seen["status"], &seen["refund"]), (&json!("paying"), &Value::Null));
    assert_eq!(shop.report(&captured(&payment, 6000, "b")).await.status, StatusCode::OK);
    let path = format!("/v1/orders/{order}");
    let seen =
        [buyer.read(&order).await, shop.operate(OperatorRole::Operator, Method::GET, &path, None).await.body];
    for seen in seen {
        assert_eq!(seen["status"], "paid");
        let captures = seen["captures"].as_array().unwrap();
        let shown: Vec<_> = captures.iter().map(|capture| (&capture["amount"], &capture["state"])).collect();
        assert_eq!(shown, [(&cny(4000), &json!("booked")), (&cny(6000), &json!("booked"))], "{seen}");
        let refunds = seen["refunds"].as_array().unwrap();
        assert_eq!((refunds.len(), &refunds[0]["amount"], &refunds[0]["by"]), (1, &cny(100), &json!("us")));
    }

    let late = buyer.buy(11, 1).await;
    let payment = buyer.pay(&late).await;
    assert_eq!(shop.report(&captured(&payment, 4000, "c")).await.status, StatusCode::OK);
    let failed = json!({ "event_id": "f", "payment_id": payment, "kind": "failed" });
    assert_eq!(shop.report(&failed).await.status, StatusCode::OK);
    let seen = buyer.read(&late).await;
    assert_eq!((&seen["status"], &seen["refund"]["amount"]), (&json!("pending"), &cny(4000)));
    assert_eq!(seen["captures"][0]["state"], "refunded");
    parked(&shop, 0).await;
    shop.close().await;
}

fn reversal(payment: &str, kind: &str, amount: u64, id: &str) -> Value {
    json!({
        "event_id": format!("event-{kind}-{id}"), "payment_id": payment, "kind": kind,
        "amount": amount, "currency": "CNY", "transaction_id": id,
    })
}

/// What the provider sends back by itself, or the bank takes back, is shown and not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_and_disputes_at_the_provider_are_facts_of_the_order() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    // A refund that overtakes its capture is kept, and booked after it.
    assert_eq!(shop.report(&reversal(&payment, "refunded", 900, "back")).await.status, StatusCode::OK);
    assert_eq!(shop.report(&captured(&payment, 9900, "paid")).await.status, StatusCode::OK);
    for _ in 0..2 {
        assert_eq!(shop.report(&reversal(&payment, "refunded", 900, "back")).await.status, StatusCode::OK);
    }
    let seen = buyer.read(&order).await;
    assert_eq!(seen["status"], "paid");
    let refunds = json!([{ "status": "done", "amount": cny(900), "by": "provider" }]);
    assert_eq!(seen["refunds"], refunds, "{seen}");
    assert_eq!(shop.stock(11).await["sold"], 1);

    assert_eq!(shop.report(&reversal(&payment, "disputed", 9000, "d")).await.status, StatusCode::OK);
    let path = format!("/v1/orders/{order}/refund");
    let why = json!({ "amount": 1000, "units_returned": 1, "reason": "damaged in transit" });
    let refunded = shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&why)).await;
    assert_eq!(refunded.status, StatusCode::OK, "{refunded}");
    assert_eq!((&refunded.body["dispute"], &refunded.body["units_returned"]), (&json!("open"), &json!(1)));
    shop.app.maintenance.settle_once().await.unwrap();
    let seen = buyer.read(&order).await;
    assert_eq!(
        (&seen["refund"]["status"], &seen["captures"][0]["state"]),
        (&json!("due"), &json!("disputed"))
    );
    assert_eq!(shop.report(&reversal(&payment, "dispute_lost", 9000, "d")).await.status, StatusCode::OK);
    let seen = buyer.read(&order).await;
    assert_eq!(
        (&seen["refund"]["status"], &seen["refund"]["amount"]),
        (&json!("done"), &cny(9900)),
        "{seen}"
    );
    assert_eq!((&seen["dispute"], &seen["captures"][0]["state"]), (&json!("lost"), &json!("refunded")));
    // More than was taken cannot go back: a person decides.
    assert_eq!(shop.report(&reversal(&payment, "refunded", 1, "more")).await.status, StatusCode::OK);
    let kept = parked(&shop, 1).await;
    assert!(kept[0]["reason"].as_str().unwrap().contains("more would go back"), "{kept:?}");
    shop.close().await;
}

/// Operators refund parts, never more than is left, and each request once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_an_order_is_refunded_once() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 2).await;
    let payment = buyer.pay(&order).await;
    assert_eq!(shop.report(&captured(&payment, 19_800, "paid")).await.status, StatusCode::OK);
    let path = format!("/v1/orders/{order}/refund");
    let ask =
        async |body: &Value| shop.operate(OperatorRole::Operator, Method::POST, &path, Some(body)).await;
    let half = json!({ "amount": 9900, "units_returned": 1, "reason": "one arrived broken" });
    for _ in 0..2 {
        let answer = ask(&half).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        let refunds = answer.body["refunds"].as_array().unwrap();
        assert_eq!((refunds.len(), &answer.body["units_returned"]), (1, &json!(1)), "{answer}");
    }
    let stock = shop.stock(11).await;
    assert_eq!((&stock["sold"], &stock["held"]), (&json!(1), &json!(0)));
    for too_much in [
        json!({ "amount": 9901, "units_returned": false, "reason": "x" }),
        json!({ "amount": 1, "units_returned": 2, "reason": "x" }),
    ] {
        let answer = ask(&too_much).await;
        expect(&answer, 400, "invalid_request");
        let detail = answer.body["detail"].as_str().unwrap();
        assert_eq!(detail, "At most an amount of 9900 and 1 units are left to refund.");
    }
    let rest = ask(&json!({ "units_returned": true, "reason": "so did the other" })).await;
    assert_eq!(rest.body["refund"]["amount"], cny(19_800), "{rest}");
    shop.app.maintenance.settle_once().await.unwrap();
    while buyer.read(&order).await["refund"]["status"] == "due" {
        shop.app.maintenance.settle_once().await.unwrap();
    }
    assert_eq!(buyer.read(&order).await["refund"]["status"], "done");
    assert_eq!(shop.stock(11).await["sold"], 0);
    shop.close().await;
}

/// Waits for this many parked callbacks.
async fn parked(shop: &Shop, expected: usize) -> Vec<Value> {
    loop {
        let path = "/v1/callbacks?state=parked";
        let answer = shop.operate(OperatorRole::Auditor, Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        let items = answer.body["items"].as_array().unwrap().clone();
        assert!(items.len() <= expected, "{items:?}");
        if items.len() == expected {
            return items;
        }
        shop.app.callbacks.worker().work_once().await.unwrap();
    }
}

/// The money may have been taken, so no authentic report is ever lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentic_reports_that_are_not_understood_are_kept_for_a_person() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    let report = |member: &str, value: Value| {
        let mut report = captured(&payment, 9900, "odd");
        report[member] = value;
        report
    };
    let odd = [
        json!({ "kind": "captured" }),
        json!([]),
        report("currency", json!("QQQ")),
        report("payment_id", json!("not a number")),
        report("event_id", json!("x".repeat(1_000))),
        report("kind", json!("chargeback")),
        report("amount", json!(9900.5)),
        captured("999", 9900, "a bare number"),
        captured("1-0-999", 9900, "unknown payment"),
        captured("99-0-999", 9900, "unknown activity"),
    ];
    for odd in &odd {
        for _ in 0..2 {
            let answer = shop.report(odd).await;
            assert_eq!((answer.status, &answer.body["received"]), (StatusCode::OK, &json!(true)), "{odd}");
        }
    }
    assert_eq!(buyer.read(&order).await["status"], "paying");
    let kept = parked(&shop, odd.len()).await;
    let bodies: Vec<Value> =
        kept.iter().map(|kept| serde_json::from_str(kept["body"].as_str().unwrap()).unwrap()).collect();
    assert!(odd.iter().all(|odd| bodies.contains(odd)), "the raw reports are kept: {bodies:?}");
    assert!(kept.iter().all(|kept| kept["provider"] == "sandbox" && kept["reason"] != ""), "{kept:?}");
    assert_eq!(scrape(&shop).await["flashsale_jobs{topic=\"callbacks\",state=\"dead\"}"], 10.0);

    // An operator replays one, which is parked again, and discards the others with a reason.
    let path = |kept: &Value, verb: &str| format!("/v1/callbacks/{}/{verb}", kept["id"].as_str().unwrap());
    let why = json!({ "reason": "looked at with the provider" });
    for (role, verb, status) in [
        (OperatorRole::Auditor, "replay", StatusCode::FORBIDDEN),
        (OperatorRole::Operator, "replay", StatusCode::OK),
    ] {
        let answer = shop.operate(role, Method::POST, &path(&kept[0], verb), Some(&why)).await;
        assert_eq!(answer.status, status, "{answer}");
    }
    let again = parked(&shop, odd.len()).await;
    for kept in &again {
        let answer =
            shop.operate(OperatorRole::Operator, Method::POST, &path(kept, "discard"), Some(&why)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        let twice =
            shop.operate(OperatorRole::Operator, Method::POST, &path(kept, "discard"), Some(&why)).await;
        expect(&twice, 404, "not_found");
    }
    parked(&shop, 0).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_spellings_of_a_report_are_understood() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    for (member, value) in [
        ("currency", json!("cny")),
        ("amount", json!("9900")),
        ("amount", json!(9900.0)),
        ("event_id", json!(20_261_129)),
    ] {
        let order = buyer.buy(11, 1).await;
        let mut report = captured(&buyer.pay(&order).await, 9900, &order);
        report[member] = value;
        assert_eq!(shop.report(&report).await.status, StatusCode::OK, "{report}");
        assert_eq!(buyer.read(&order).await["status"], "paid", "{report}");
    }
    for ping in [json!({ "event_id": "p", "type": "ping" }), json!({ "event_id": "p", "kind": "ping" })] {
        assert_eq!(shop.report(&ping).await.status, StatusCode::OK);
    }
    parked(&shop, 0).await;
    // A capture in another currency is refunded.
    let order = buyer.buy(11, 1).await;
    let mut report = captured(&buyer.pay(&order).await, 9900, "dollars");
    report["currency"] = json!("USD");
    assert_eq!(shop.report(&report).await.status, StatusCode::OK);
    let seen = buyer.read(&order).await;
    assert_eq!((&seen["status"], &seen["refund"]["amount"]["currency"]), (&json!("paying"), &json!("USD")));
    shop.close().await;
}

/// Event ids of some providers cover several items, and transaction ids are unique per terminal
/// only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_may_share_event_and_transaction_ids() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let mut orders = Vec::new();
    for (event, transaction) in [("evt-1", "tx-1"), ("evt-1", "tx-2"), ("evt-2", "tx-1")] {
        let order = buyer.buy(11, 1).await;
        let payment = buyer.pay(&order).await;
        let mut report = captured(&payment, 9900, transaction);
        report["event_id"] = json!(event);
        for _ in 0..2 {
            assert_eq!(shop.report(&report).await.status, StatusCode::OK);
        }
        let seen = buyer.read(&order).await;
        assert_eq!((&seen["status"], &seen["refund"]), (&json!("paid"), &Value::Null), "{report}");
        orders.push((payment, report));
    }
    parked(&shop, 0).await;
    // A known id with other content, of a payment that is not open, is left to a person.
    let (payment, first) = &orders[0];
    let mut other = captured(payment, 1, "tx-1");
    other["event_id"] = first["event_id"].clone();
    assert_eq!(shop.report(&other).await.status, StatusCode::OK);
    let kept = parked(&shop, 1).await;
    assert!(kept[0]["reason"].as_str().unwrap().contains("belongs to other money"), "{kept:?}");
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
        let answer = shop.report(&captured("1-0-4242", 9900, "unknown")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
    }
    let mut failure = captured("1-0-4242", 9900, "unknown");
    failure["kind"] = json!("failed");
    assert_eq!(shop.report(&failure).await.status, StatusCode::OK);
    expect(&shop.call(Method::POST, "/sandbox/payments/1-0-4242/capture", &[], None).await, 404, "not_found");
    expect(&shop.call(Method::POST, "/sandbox/payments/1-0-4242/other", &[], None).await, 404, "not_found");
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
