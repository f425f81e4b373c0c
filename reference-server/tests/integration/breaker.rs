//! The circuit breaker stops calls to a failing payment provider; everything else keeps working.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::{
    metrics::scrape,
    shop::{Shop, expect},
};

/// Starts a shop whose breaker opens for 10 s after two failures and closes after one probe.
async fn shop() -> Shop {
    Shop::with(|config| {
        config.payment.breaker.calls = 4;
        config.payment.breaker.failures = 2;
        config.payment.breaker.probes = 1;
    })
    .await
}

async fn state(shop: &Shop) -> f64 {
    scrape(shop).await["flashsale_breaker_state{dependency=\"payment/sandbox\"}"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_provider_is_not_called_until_it_recovers() {
    let shop = shop().await;
    let sandbox = shop.app.sandbox.clone().unwrap();
    let [first, second, third] = [shop.buyer(1).await, shop.buyer(2).await, shop.buyer(3).await];
    let order = first.buy(11, 1).await;
    let path = format!("/v1/orders/{order}/payment");
    let waiting = second.buy(11, 1).await;
    let paid = third.buy(11, 1).await;
    let payment = third.pay(&paid).await;
    assert_eq!(state(&shop).await, 0.0);

    sandbox.fail(true);
    for _ in 0..2 {
        expect(&first.call(Method::POST, &path).await, 503, "unavailable");
    }
    assert_eq!(first.read(&order).await["status"], "paying", "the provider may know of this payment");
    assert_eq!(state(&shop).await, 2.0);

    // Open: a payment request is told when to retry, and the order is unchanged.
    let refused = second.call(Method::POST, &format!("/v1/orders/{waiting}/payment")).await;
    expect(&refused, 503, "unavailable");
    assert_eq!(refused.header("retry-after"), "10");
    let seen = second.read(&waiting).await;
    assert_eq!((&seen["status"], &seen["payment"]), (&json!("pending"), &json!(null)));
    // The same holds for a retry of a payment that the provider may have opened.
    expect(&first.call(Method::POST, &path).await, 503, "unavailable");

    // Everything else works: captures are booked, units are sold, orders are cancelled.
    let report = shop.call(Method::POST, &format!("/sandbox/payments/{payment}/capture"), &[], None).await;
    assert_eq!(report.status, StatusCode::OK, "{report}");
    assert_eq!(third.read(&paid).await["status"], "paid");
    expect(&third.call(Method::POST, &format!("/v1/orders/{paid}/payment")).await, 409, "wrong_state");
    let other = third.buy(11, 1).await;
    assert_eq!(third.call(Method::POST, &format!("/v1/orders/{other}/cancel")).await.status, StatusCode::OK);
    // Cancelling this order must wait: the provider may still capture its payment.
    let kept = first.call(Method::POST, &format!("/v1/orders/{order}/cancel")).await;
    expect(&kept, 503, "unavailable");
    assert_eq!(kept.header("retry-after"), "10");

    // The provider recovers and is called again when the open period ends.
    sandbox.fail(false);
    expect(&first.call(Method::POST, &path).await, 503, "unavailable");
    shop.clock.advance(Duration::from_secs(10));
    assert_eq!(state(&shop).await, 1.0);
    second.pay(&waiting).await;
    assert_eq!(state(&shop).await, 0.0);
    assert_eq!(first.call(Method::POST, &path).await.status, StatusCode::CREATED);

    let numbers = scrape(&shop).await;
    for (outcome, count) in [("succeeded", 3.0), ("failed", 2.0), ("rejected", 5.0)] {
        let name =
            format!("flashsale_breaker_calls_total{{dependency=\"payment/sandbox\",outcome=\"{outcome}\"}}");
        assert_eq!(numbers.get(&name), Some(&count), "{name} in {numbers:#?}");
    }
    shop.close().await;
}
