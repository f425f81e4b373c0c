//! The monitors of the invariants, in a shop that sells.

use std::sync::Arc;

use flashsale_core::ledger::{Consumer, Ledger as _};
use hyper::{Method, StatusCode};
use reference_server::monitor::Invariant;

use crate::{metrics::scrape, shop::Shop};

/// Waits until the monitor has looked once from beginning to end.
async fn look(shop: &Shop) {
    let mut looks = shop.app.monitor.looks();
    let before = *looks.borrow_and_update();
    looks.wait_for(|looks| *looks >= before + 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_is_seen_and_a_clean_sale_has_none() {
    let shop = Shop::with(|config| {
        config.monitor.period_seconds = 1;
        config.monitor.outbox_entries = 8;
    })
    .await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 2).await;
    let payment = buyer.pay(&order).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    buyer.buy(13, 1).await;
    look(&shop).await;
    assert_eq!(shop.app.monitor.broken(), Invariant::ALL.map(|invariant| (invariant, 0)));

    // Somebody reads the outbox no more.
    shop.app.engine.register(&Consumer(Arc::from("nobody"))).await.unwrap();
    for user in 2..12 {
        shop.buyer(user).await.buy(11, 1).await;
    }
    look(&shop).await;
    let numbers = scrape(&shop).await;
    let violations =
        |invariant| numbers[&format!("flashsale_invariant_violations{{invariant=\"{invariant}\"}}")];
    assert_eq!((violations("outbox"), violations("units"), violations("holds")), (1.0, 0.0, 0.0));
    assert_eq!(numbers["flashsale_obstacles"], 0.0, "it goes on selling");
    shop.close().await;
}
