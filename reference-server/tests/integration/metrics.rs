//! The metrics of a shop.

use std::collections::HashMap;

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::shop::{Shop, expect};

/// Reads `/metrics`. The keys are the metric names with their labels.
pub(crate) async fn scrape(shop: &Shop) -> HashMap<String, f64> {
    let answer = shop.call_operations("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = answer.body.as_str().unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, number) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), number.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_requests_outcomes_units_and_orders() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(7).await;
    let order = buyer.buy(11, 2).await;
    let payment = buyer.pay(&order).await;
    assert_eq!(
        shop.call(Method::POST, &format!("/sandbox/payments/{payment}/capture"), &[], None).await.status,
        StatusCode::OK
    );
    let pending = buyer.buy(11, 1).await;
    assert_eq!(
        buyer.call(Method::POST, &format!("/v1/orders/{pending}/cancel")).await.status,
        StatusCode::OK
    );
    buyer.buy(12, 1).await;
    expect(&buyer.order(11, 9).await, 409, "limit_reached");
    expect(&shop.order_with("forged", &[], 1).await, 403, "ticket_invalid");
    expect(&shop.read("/v1/nowhere").await, 404, "not_found");
    let answer = shop.call(Method::POST, "/v1/sessions", &[], Some(&json!({ "user": 1 }))).await;
    expect(&answer, 400, "invalid_request");

    let numbers = scrape(&shop).await;
    let public = |name: &str, labels: &str| {
        let name = format!("flashsale_{name}{{listener=\"public\",{labels}}}");
        *numbers.get(&name).unwrap_or_else(|| panic!("{name} in {numbers:#?}"))
    };
    let order = "route=\"POST /v1/orders/{ticket}\"";
    assert_eq!(public("http_requests_total", &format!("{order},status=\"201\"")), 3.0);
    assert_eq!(public("http_requests_total", &format!("{order},status=\"409\"")), 1.0);
    assert_eq!(public("http_requests_total", "route=\"other\",status=\"404\""), 1.0);
    assert_eq!(public("http_requests_total", "route=\"POST /v1/sessions\",status=\"400\""), 1.0);
    assert_eq!(public("http_in_flight", order), 0.0);
    assert_eq!(public("http_request_seconds_count", "route=\"POST /v1/sessions\""), 2.0);
    assert_eq!(public("http_request_seconds_count", order), 1.0, "hot routes are sampled");
    let first_bucket =
        "flashsale_http_request_seconds_bucket{le=\"0.00005\",listener=\"public\",route=\"other\"}";
    assert!(numbers.contains_key(first_bucket), "{numbers:#?}");
    for (code, count) in
        [("limit_reached", 1.0), ("ticket_invalid", 1.0), ("not_found", 1.0), ("sold_out", 0.0)]
    {
        assert_eq!(public("problems_total", &format!("code=\"{code}\"")), count, "{code}");
    }
    for (name, number) in [
        ("outcomes_total{kind=\"reserve\",outcome=\"reserved\"}", 3.0),
        ("outcomes_total{kind=\"reserve\",outcome=\"limit_reached\"}", 1.0),
        ("outcomes_total{kind=\"advance\",outcome=\"done\"}", 3.0),
        ("units{activity=\"1\",sku=\"11\",state=\"available\"}", 98.0),
        ("units{activity=\"1\",sku=\"11\",state=\"sold\"}", 2.0),
        ("orders{activity=\"1\",status=\"paid\"}", 1.0),
        ("orders{activity=\"1\",status=\"cancelled\"}", 1.0),
        ("orders{activity=\"1\",status=\"pending\"}", 1.0),
        ("orders{activity=\"1\",status=\"paying\"}", 0.0),
        ("refunds_due{activity=\"1\"}", 0.0),
        ("hold_overdue_seconds{activity=\"1\"}", 0.0),
        ("batch_items_count{kind=\"reserve\"}", 4.0),
        ("guard_verdicts_total{rule=\"ticket\",verdict=\"denied\"}", 1.0),
        ("ledger_up", 1.0),
        ("ledger_read", 1.0),
        ("obstacles", 0.0),
        ("commit_seconds_count", 0.0),
        ("build{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(numbers.get(&format!("flashsale_{name}")), Some(&number), "{name} in {numbers:#?}");
    }
    assert!(numbers["flashsale_id_lease_seconds"] > 3_600.0);
    assert!(numbers["process_resident_memory_bytes"] > 1e6);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_holds_commits_and_a_stopped_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&crate::shop::catalogue()).await;
    let buyer = shop.buyer(7).await;
    buyer.buy(11, 1).await;
    shop.clock.advance(std::time::Duration::from_secs(59));
    let numbers = scrape(&shop).await;
    assert_eq!(numbers["flashsale_holds{activity=\"1\",age=\"up to 60 s\"}"], 1.0);
    assert_eq!(numbers["flashsale_holds_waiting{activity=\"1\"}"], 1.0);
    assert!(numbers["flashsale_commit_seconds_count"] >= 2.0, "{numbers:#?}");
    assert!(numbers["flashsale_commit_seconds_sum"] > 0.0);

    shop.app.close_stores.call().await.unwrap();
    let numbers = scrape(&shop).await;
    assert_eq!((numbers["flashsale_ledger_up"], numbers["flashsale_ledger_read"]), (0.0, 0.0));
    assert!(numbers["flashsale_obstacles"] >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_come_in_the_format_that_a_scraper_accepts() {
    let shop = Shop::open().await;
    shop.read("/v1/time").await;
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, is_open) in [
        (None, true),
        (Some("*/*"), true),
        (Some("application/openmetrics-text"), true),
        (Some(prometheus), true),
        (Some("text/plain"), false),
        (Some("text/plain;version=0.0.4, */*;q=0.1"), false),
        (Some("application/openmetrics-text;q=0.1, text/*"), false),
    ] {
        let headers: Vec<_> = accept.map(|accept| ("accept", accept)).into_iter().collect();
        let answer = shop.operate_as(Method::GET, "/metrics", &headers, None).await;
        let kind =
            if is_open { "application/openmetrics-text; version=1.0.0" } else { "text/plain; version=0.0.4" };
        assert_eq!(answer.header("content-type"), format!("{kind}; charset=utf-8"), "{accept:?}");
        let text = answer.body.as_str().unwrap();
        assert_eq!(text.ends_with("# EOF\n"), is_open, "{text}");
        let described = if is_open { "flashsale_http_requests" } else { "flashsale_http_requests_total" };
        assert!(text.contains(&format!("# TYPE {described} counter\n")), "{text}");
        assert!(text.contains("\nflashsale_http_requests_total{listener=\"public\","), "{text}");
    }
    shop.close().await;
}
