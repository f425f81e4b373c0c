//! Restarts on the same data directory: nothing acknowledged is lost, and nothing is done twice.

use std::os::unix::fs::PermissionsExt as _;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::shop::{Shop, catalogue};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_tickets_sessions_and_payments_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&catalogue()).await;
    let buyer = shop.buyer(1).await;
    let (session, paid, open) = (buyer.session.clone(), buyer.buy(11, 1).await, buyer.buy(11, 2).await);
    let payment = buyer.pay(&paid).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    let (used, unused) = (buyer.ticket(11).await, buyer.ticket(11).await);
    let placed = shop.order_with(&used, &[], 1).await;
    let open_payment = buyer.pay(&open).await;
    shop.close().await;

    let shop = Shop::on(directory.path()).await;
    let read = async |order: &str| {
        let path = format!("/v1/orders/{order}");
        shop.call(Method::GET, &path, &[("authorization", &session)], None).await.body["status"].clone()
    };
    assert_eq!(read(&paid).await, "paid");
    assert_eq!(read(&open).await, "paying");
    let again = shop.order_with(&used, &[], 1).await;
    assert_eq!((again.status, again.text("order_id")), (StatusCode::OK, placed.text("order_id")));
    assert_eq!(shop.order_with(&unused, &[], 1).await.status, StatusCode::CREATED);
    let late = shop.call(Method::POST, &format!("/sandbox/payments/{open_payment}/capture"), &[], None).await;
    assert_eq!(late.status, StatusCode::OK);
    assert_eq!(read(&open).await, "paid");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    let stock = shop.stock(11).await;
    let units = (&stock["available"], &stock["held"], &stock["sold"]);
    assert_eq!(units, (&json!(95), &json!(2), &json!(3)), "{stock}");
    let same = shop.import(&catalogue()).await;
    assert_eq!(same.body["activities"]["unchanged"], 3);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_can_access_the_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    Shop::on(&data).await.close().await;
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}
