//! The binding and expiry of tickets.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::shop::{Shop, expect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_bound_ticket_requires_its_device() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let headers = [("authorization", buyer.session.as_str()), ("flashsale-device", "phone")];
    let path = "/v1/activities/1/offers/14/ticket";
    let issued = shop.call(Method::POST, path, &headers, Some(&json!({}))).await;
    let ticket = issued.text("ticket");
    expect(&shop.order_with(ticket, &[], 1).await, 403, "ticket_invalid");
    expect(&shop.order_with(ticket, &[("flashsale-device", "laptop")], 1).await, 403, "ticket_invalid");
    let placed = shop.order_with(ticket, &[("flashsale-device", "phone")], 1).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed}");

    // The same device with another user.
    let other = shop.buyer(2).await;
    let headers = [("authorization", other.session.as_str()), ("flashsale-device", "phone")];
    let issued = shop.call(Method::POST, path, &headers, None).await;
    let limited = shop.order_with(issued.text("ticket"), &[("flashsale-device", "phone")], 1).await;
    expect(&limited, 409, "limit_reached");
    // Without a device the limit cannot be checked, so the order is declined.
    let nameless = other.order(14, 1).await;
    expect(&nameless, 409, "limit_reached");
    assert!(nameless.text("detail").contains("flashsale-device"), "{nameless}");
    assert!(!limited.text("detail").contains("flashsale-device"), "{limited}");
    let solved = json!({ "challenge_id": "1", "solution": { "counter": 7 } });
    let headers = [("authorization", other.session.as_str())];
    assert_eq!(shop.call(Method::POST, path, &headers, Some(&solved)).await.status, StatusCode::OK);
    expect(
        &shop.call(Method::POST, path, &[("authorization", &other.session)], Some(&json!({ "x": 1 }))).await,
        400,
        "invalid_request",
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_limit_counts_all_users_of_an_address() {
    let shop = Shop::open().await;
    shop.buyer(1).await.buy(15, 1).await;
    let forged = [("x-forwarded-for", "203.0.113.9")];
    let other = shop.buyer(2).await;
    let ticket = other.ticket(15).await;
    expect(&shop.order_with(&ticket, &forged, 1).await, 409, "limit_reached");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_ticket_can_only_replay_its_order() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let (used, unused) = (buyer.ticket(12).await, buyer.ticket(11).await);
    let of_somebody_else = shop.buyer(2).await.ticket(12).await;
    let placed = shop.order_with(&used, &[], 1).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed}");
    shop.clock.advance(Duration::from_secs(301));
    let again = shop.order_with(&used, &[], 1).await;
    assert_eq!((again.status, again.text("order_id")), (StatusCode::OK, placed.text("order_id")));
    expect(&shop.order_with(&unused, &[], 1).await, 403, "ticket_expired");
    // Expiry takes precedence over sold out, in the ledger and in the local view.
    expect(&shop.order_with(&of_somebody_else, &[], 1).await, 403, "ticket_expired");
    while shop.read("/v1/activities/1/status").await.body["offers"][1]["state"] != "sold_out" {
        shop.clock.advance(Duration::from_millis(1));
    }
    expect(&shop.order_with(&of_somebody_else, &[], 1).await, 403, "ticket_expired");

    let altered = format!("{}A", &unused[..unused.len() - 1]);
    let altered = if altered == unused { format!("{}B", &unused[..unused.len() - 1]) } else { altered };
    expect(&shop.order_with(&altered, &[], 1).await, 403, "ticket_invalid");
    shop.close().await;
}
