//! A purchase from the list of activities to the paid order, and access to orders.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::shop::{Shop, expect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_gets_from_the_activity_list_to_a_paid_order() {
    let shop = Shop::open().await;
    let list = shop.read("/v1/activities?limit=1").await;
    assert_eq!(list.body["items"][0]["id"], "1");
    let next = list.body["next"].as_str().unwrap();
    let rest = shop.read(&format!("/v1/activities?after={next}")).await;
    assert_eq!((&rest.body["items"][0]["id"], &rest.body["next"]), (&json!("2"), &json!(null)), "{rest}");
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1, "drafts are not listed");
    let activity = shop.read("/v1/activities/1").await;
    assert_eq!(activity.body["offers"][0]["sku_id"], "11");
    assert_eq!(activity.body["offers"][0]["price"], json!({ "amount": 9900, "currency": "CNY" }));
    expect(&shop.read("/v1/activities/3").await, 404, "not_found");
    assert_eq!(shop.read("/v1/products/1").await.body["skus"][4]["id"], "15");
    assert_eq!(shop.read("/v1/skus/11").await.body["product_id"], "1");

    let status = shop.read("/v1/activities/1/status").await;
    assert_eq!(status.header("cache-control"), "max-age=1");
    assert_eq!(
        (&status.body["phase"], &status.body["offers"][0]["state"]),
        (&json!("live"), &json!("on_sale"))
    );
    assert_eq!(shop.read("/v1/activities/2/status").await.body["offers"][0]["state"], "upcoming");

    let buyer = shop.buyer(7).await;
    let ticket = buyer.ticket(11).await;
    let placed = shop.order_with(&ticket, &[("idempotency-key", "first")], 2).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed}");
    let id = placed.text("order_id");
    assert_eq!(placed.header("location"), format!("/v1/orders/{id}"));
    let members: Vec<_> = placed.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["activity_id", "amount", "order_id", "quantity", "receipt", "reserved_until", "sku_id", "status"]
    );
    assert_eq!(placed.header("cache-control"), "no-store");
    assert_eq!((placed.text("status"), &placed.body["quantity"]), ("pending", &json!(2)));
    assert_eq!(placed.body["amount"], json!({ "amount": 19800, "currency": "CNY" }));
    assert!(placed.body["reserved_until"].is_string());
    let repeated = shop.order_with(&ticket, &[("idempotency-key", "first")], 2).await;
    assert_eq!((repeated.status, repeated.text("order_id")), (StatusCode::OK, id));
    assert_eq!(shop.stock(11).await["held"], 2);

    let path = format!("/v1/orders/{id}/payment");
    let payment = buyer.call(Method::POST, &path).await;
    assert_eq!(payment.status, StatusCode::CREATED, "{payment}");
    assert_eq!(payment.text("provider"), "sandbox");
    assert_eq!(buyer.call(Method::POST, &path).await.body, payment.body, "an open payment is returned again");
    assert_eq!(shop.read(payment.text("pay_url")).await.status, StatusCode::OK);
    let paying = shop.order_with(&ticket, &[("idempotency-key", "first")], 2).await;
    assert_eq!((paying.status, paying.text("status")), (StatusCode::OK, "paying"), "a replay is up to date");

    let capture = format!("/sandbox/payments/{}/capture", payment.text("payment_id"));
    for _ in 0..2 {
        let captured = shop.call(Method::POST, &capture, &[], None).await;
        assert_eq!(captured.status, StatusCode::OK, "{captured}");
    }
    let paid = buyer.watch(id, "paid").await;
    assert_eq!(paid["payment"]["status"], "captured");
    let stock = shop.stock(11).await;
    assert_eq!((&stock["available"], &stock["held"], &stock["sold"]), (&json!(98), &json!(0), &json!(2)));
    expect(&buyer.call(Method::POST, &path).await, 409, "wrong_state");
    let cancel = buyer.call(Method::POST, &format!("/v1/orders/{id}/cancel")).await;
    expect(&cancel, 409, "wrong_state");
    assert_eq!(cancel.body["order_status"], "paid");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_or_expired_order_returns_its_units() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(7).await;
    let (first, second) = (buyer.buy(11, 2).await, buyer.buy(11, 3).await);
    let cancel = format!("/v1/orders/{first}/cancel");
    for _ in 0..2 {
        let cancelled = buyer.call(Method::POST, &cancel).await;
        assert_eq!(
            (cancelled.status, cancelled.text("status")),
            (StatusCode::OK, "cancelled"),
            "{cancelled}"
        );
    }
    assert_eq!(shop.stock(11).await["held"], 3);
    // An open payment is closed at the provider before the order is cancelled.
    buyer.pay(&second).await;
    let cancelled = buyer.call(Method::POST, &format!("/v1/orders/{second}/cancel")).await;
    assert_eq!(cancelled.text("status"), "cancelled", "{cancelled}");
    assert_eq!(cancelled.body["payment"]["status"], "closed");

    let third = buyer.buy(11, 5).await;
    shop.clock.advance(Duration::from_secs(61));
    buyer.watch(&third, "expired").await;
    assert_eq!(shop.stock(11).await["available"], 100);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_can_access_an_order() {
    let shop = Shop::open().await;
    let (buyer, other) = (shop.buyer(7).await, shop.buyer(8).await);
    let order = buyer.buy(11, 1).await;
    for (method, path) in [
        (Method::GET, format!("/v1/orders/{order}")),
        (Method::POST, format!("/v1/orders/{order}/cancel")),
        (Method::POST, format!("/v1/orders/{order}/payment")),
    ] {
        expect(&other.call(method.clone(), &path).await, 404, "not_found");
        expect(&shop.call(method, &path, &[], None).await, 401, "unauthorized");
    }
    for id in ["1", "0", "x", "9223372036854775807", "1-1", "2-1", "9-9ix", "1-", "1-0", "1-zzzzzzzzzzzzzz"] {
        expect(&buyer.call(Method::GET, &format!("/v1/orders/{id}")).await, 404, "not_found");
    }
    assert_eq!(other.call(Method::GET, "/v1/orders").await.body["items"], json!([]));
    expect(&shop.read("/v1/orders").await, 401, "unauthorized");
    expect(
        &shop.call(Method::GET, "/v1/orders", &[("authorization", "Bearer x")], None).await,
        401,
        "unauthorized",
    );

    let mut orders = vec![order];
    for _ in 0..4 {
        orders.push(buyer.buy(11, 1).await);
    }
    orders.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/orders?limit=2".to_owned());
    loop {
        let page = buyer.call(Method::GET, &path).await;
        assert_eq!(page.header("cache-control"), "no-store");
        seen.extend(page.body["items"].as_array().unwrap().iter().map(|order| order["order_id"].clone()));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/orders?limit=2&after={next}");
    }
    assert_eq!(seen, orders);
    for query in ["limit=0", "limit=101", "limit=x", "after=x", "other=1"] {
        let answer = buyer.call(Method::GET, &format!("/v1/orders?{query}")).await;
        expect(&answer, 400, "invalid_request");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_gives_access_to_its_order_without_a_session() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(7).await;
    let ticket = buyer.ticket(11).await;
    let placed = shop.order_with(&ticket, &[], 1).await;
    let location = placed.header("location").to_owned();
    let read = async |path: &str, receipt: &str| {
        shop.call(Method::GET, path, &[("flashsale-receipt", receipt)], None).await
    };
    let receipt = placed.text("receipt").to_owned();
    let seen = read(&location, &receipt).await;
    assert_eq!((&seen.body["order_id"], &seen.body["receipt"]), (&placed.body["order_id"], &Value::Null));
    // No body means one unit.
    let repeated = shop.call(Method::POST, &format!("/v1/orders/{ticket}"), &[], None).await;
    assert_eq!((repeated.status, repeated.text("order_id")), (StatusCode::OK, placed.text("order_id")));
    assert_eq!(read(&location, repeated.text("receipt")).await.body, seen.body);
    // It gives access to no other order, and an altered receipt fails even for the owner.
    let other = format!("/v1/orders/{}", buyer.buy(11, 1).await);
    let last = if receipt.ends_with('A') { "B" } else { "A" };
    let altered = format!("{}{last}", &receipt[..receipt.len() - 1]);
    for (path, receipt) in [(&other, &receipt), (&location, &altered)] {
        expect(&read(path, receipt).await, 404, "not_found");
    }
    expect(&shop.read(&location).await, 401, "unauthorized");
    expect(&read("/v1/orders", &receipt).await, 401, "unauthorized");
    // Logs and referrers see addresses, so a receipt in one is refused.
    expect(&buyer.call(Method::GET, &format!("{location}?receipt={receipt}")).await, 400, "invalid_request");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_payment_url_is_absolute_if_the_public_url_is_configured() {
    let shop = Shop::with(|config| config.http.public_url = Some("https://shop.example".to_owned())).await;
    let buyer = shop.buyer(7).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.call(Method::POST, &format!("/v1/orders/{order}/payment")).await;
    let expected = format!("https://shop.example/sandbox/payments/{}", payment.text("payment_id"));
    assert_eq!(payment.text("pay_url"), expected);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_buyer_finds_the_order_with_the_same_key() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(7).await;
    let ticket = buyer.ticket(11).await;
    let client = flashsale_testkit::client::Client::new(shop.public);
    let key = [("idempotency-key", "k")];
    let body = json!({ "quantity": 1 });
    client.send_and_hang_up(Method::POST, &format!("/v1/orders/{ticket}"), &key, &body).await.unwrap();
    let answer = shop.order_with(&ticket, &key, 1).await;
    assert!(answer.status.is_success(), "{answer}");
    let again = shop.order_with(&ticket, &key, 1).await;
    assert_eq!(again.text("order_id"), answer.text("order_id"));
    assert_eq!(shop.stock(11).await["held"], 1);
    shop.close().await;
}
