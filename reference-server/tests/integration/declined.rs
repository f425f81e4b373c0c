//! Every code that declines an order or a ticket, as the client sees it.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use flashsale_core::{
    domain::{ActivityId, Attribution, Selling},
    ledger::{Change, ChangeId, LedgerCalls as _},
};
use flashsale_testkit::client::Client;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::shop::{Shop, expect};

async fn set(shop: &Shop, change: u64, selling: Selling) {
    let by = Attribution { actor: "test".parse().unwrap(), reason: "test".parse().unwrap() };
    let activity = ActivityId::new(1).unwrap();
    let sales = &shop.app.sales;
    sales.ledger().amend(activity, ChangeId(change), Change::Selling(selling), by).await.unwrap();
    // As an operator's change does: a view read before it would decline what it allows.
    for front in sales.sale(activity).unwrap().fronts() {
        sales.renew(front).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_declined_for_stock_limits_and_reused_keys() {
    let shop = Shop::open().await;
    let (winner, loser) = (shop.buyer(1).await, shop.buyer(2).await);
    let ticket = winner.ticket(12).await;
    let won = shop.order_with(&ticket, &[("idempotency-key", "k")], 1).await;
    assert_eq!(won.status, StatusCode::CREATED, "{won}");
    let sold_out = loser.order(12, 1).await;
    expect(&sold_out, 409, "sold_out");
    assert_eq!(sold_out.body["available"], 0);
    // A retry of the request that took the last unit returns its order.
    let again = shop.order_with(&ticket, &[("idempotency-key", "k")], 1).await;
    assert_eq!((again.status, again.text("order_id")), (StatusCode::OK, won.text("order_id")));
    assert_eq!(winner.order(12, 1).await.code(), "limit_reached", "the limit is checked before the stock");

    let limit = loser.order(11, 6).await;
    expect(&limit, 409, "limit_reached");
    assert_eq!(limit.body["rule"], json!({ "subject": "user", "per": "offer", "max": 5 }));
    assert_eq!(limit.body["remaining"], 5);

    let ticket = loser.ticket(11).await;
    assert_eq!(shop.order_with(&ticket, &[("idempotency-key", "a")], 1).await.status, StatusCode::CREATED);
    expect(&shop.order_with(&ticket, &[("idempotency-key", "b")], 1).await, 409, "ticket_used");
    expect(&shop.order_with(&ticket, &[("idempotency-key", "a")], 2).await, 422, "key_reused");
    let other = loser.ticket(13).await;
    expect(&shop.order_with(&other, &[("idempotency-key", "a")], 1).await, 422, "key_reused");
    // Keys are scoped to a user: another user may use the same key.
    let ticket = winner.ticket(11).await;
    assert_eq!(shop.order_with(&ticket, &[("idempotency-key", "a")], 1).await.status, StatusCode::CREATED);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pay_time_units_are_taken_when_the_payment_opens() {
    let shop = Shop::open().await;
    let mut orders = Vec::new();
    for user in 1..=3 {
        let buyer = shop.buyer(user).await;
        orders.push((buyer.buy(13, 1).await, buyer));
    }
    assert_eq!(
        shop.buyer(4).await.order(13, 1).await.code(),
        "sold_out",
        "an overbook of 150% allows three orders for two units"
    );
    for (order, buyer) in &orders[..2] {
        buyer.pay(order).await;
    }
    let (order, buyer) = &orders[2];
    let refused = buyer.call(Method::POST, &format!("/v1/orders/{order}/payment")).await;
    expect(&refused, 409, "sold_out");
    assert_eq!(refused.body["available"], 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_declined_before_the_start_during_a_pause_and_after_the_end() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let early = buyer.ask_for_ticket(2, 11).await;
    expect(&early, 409, "not_started");
    assert!(early.body["starts_at"].is_string());
    assert_eq!(early.header("retry-after"), "3540", "tickets are issued from a minute before the start");
    shop.clock.advance(Duration::from_secs(3_541));
    // The session is still valid after the clock jump, and tickets are issued before the start.
    let ticket = buyer.ask_for_ticket(2, 11).await;
    assert_eq!(ticket.status, StatusCode::OK, "{ticket}");
    let early = shop.order_with(ticket.text("ticket"), &[], 1).await;
    expect(&early, 409, "not_started");
    assert_eq!(early.header("retry-after"), "59");
    shop.clock.advance(Duration::from_secs(60));
    let on_time = shop.order_with(ticket.text("ticket"), &[], 4).await;
    assert_eq!(on_time.status, StatusCode::CREATED, "one order can use units of several buckets: {on_time}");

    let ticket = buyer.ticket(11).await;
    set(&shop, 1, Selling::Paused).await;
    expect(&shop.order_with(&ticket, &[], 1).await, 409, "paused");
    set(&shop, 2, Selling::On).await;
    assert_eq!(shop.order_with(&ticket, &[], 1).await.status, StatusCode::CREATED);
    let unused = buyer.ticket(11).await;
    shop.clock.advance(Duration::from_secs(6 * 3_600));
    expect(&buyer.ask_for_ticket(1, 11).await, 409, "ended");
    let late = shop.order_with(&unused, &[], 1).await;
    assert!(["ticket_expired", "ended"].contains(&late.code()), "{late}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_declined_after_an_operator_ends_the_sale() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    set(&shop, 1, Selling::Ended).await;
    expect(&shop.order_with(&ticket, &[], 1).await, 409, "ended");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_requests_are_rejected() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    let path = format!("/v1/orders/{ticket}");
    for (body, field) in [
        (json!({ "quantity": null }), Some("quantity")),
        (json!({ "quantity": 1, "price": 1 }), Some("price")),
        (json!({ "quantity": 0 }), Some("quantity")),
        (json!({ "quantity": -5 }), Some("quantity")),
        (json!({ "quantity": 1.5 }), Some("quantity")),
        (json!({ "quantity": "1" }), Some("quantity")),
        (json!({ "quantity": 4_294_967_297_u64 }), Some("quantity")),
        (json!([1]), None),
    ] {
        let answer = shop.call(Method::POST, &path, &[], Some(&body)).await;
        expect(&answer, 400, "invalid_request");
        if let Some(field) = field {
            assert_eq!(answer.text("field"), field);
        }
    }
    let numbered = json!({ "user_id": 7, "user_name": "x" });
    let nobody = shop.call(Method::POST, "/v1/sessions", &[], Some(&numbered)).await;
    expect(&nobody, 400, "invalid_request");
    assert_eq!(nobody.text("field"), "user_id");
    let mut client = Client::new(shop.public);
    let huge = Bytes::from(vec![b' '; 16 * 1024 + 1]);
    expect(&client.send(Method::POST, &path, &[], Some(huge)).await.unwrap(), 413, "too_large");
    let typed = [("content-type", "text/plain")];
    let untyped = shop.call(Method::POST, &path, &typed, Some(&json!({ "quantity": 1 }))).await;
    expect(&untyped, 415, "unsupported_media_type");
    let long = "k".repeat(256);
    for key in ["", "a b", long.as_str()] {
        expect(&shop.order_with(&ticket, &[("idempotency-key", key)], 1).await, 400, "invalid_request");
    }
    expect(&shop.order_with("nonsense", &[], 1).await, 403, "ticket_invalid");
    expect(&buyer.ask_for_ticket(1, 99).await, 404, "not_found");
    expect(&buyer.ask_for_ticket(3, 11).await, 404, "not_found");
    expect(
        &shop.call(Method::POST, "/v1/activities/1/offers/11/ticket", &[], None).await,
        401,
        "unauthorized",
    );
    expect(&shop.call(Method::DELETE, "/v1/orders", &[], None).await, 405, "method_not_allowed");
    expect(&shop.read("/v1/nothing").await, 404, "not_found");
    assert_eq!(shop.stock(11).await["available"], 100, "no request took a unit");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_rate_limited_per_user() {
    let shop = Shop::with(|config| config.rate.user_orders = NonZeroU32::new(2).unwrap()).await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    for _ in 0..2 {
        assert!(shop.order_with(&ticket, &[], 1).await.status.is_success());
    }
    let limited = shop.order_with(&ticket, &[], 1).await;
    expect(&limited, 429, "rate_limited");
    assert_eq!(limited.header("retry-after"), "5");
    assert_eq!(limited.header("ratelimit-policy"), "\"user_orders\";q=2;w=10");
    assert_eq!(limited.header("ratelimit"), "\"user_orders\";r=0;t=5");
    assert!(shop.buyer(2).await.order(11, 1).await.status.is_success(), "other users are not limited");
    shop.clock.advance(Duration::from_secs(5));
    assert!(shop.order_with(&ticket, &[], 1).await.status.is_success());
    shop.close().await;
}
