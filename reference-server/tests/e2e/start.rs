//! The time between the first moment and readiness.

use flashsale_core::domain::Strategy;
use flashsale_testkit::client::Client;
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::site::{SOON, Site, offer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ports_answer_from_the_first_moment() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path().join("data"), vec![offer(1, Strategy::OrderTime, 10, None)]);
    let held = site.serve_held();
    // These connections stay open.
    let (mut public, mut operations) = (Client::new(held.public), Client::new(held.operations));
    let alive = operations.request(Method::GET, "/healthz", &[], None).await.unwrap();
    assert_eq!(alive.status, StatusCode::OK, "{alive}");
    let readiness = operations.request(Method::GET, "/readyz", &[], None).await.unwrap();
    assert_eq!((readiness.status.as_u16(), readiness.code()), (503, "not_ready"), "{readiness}");
    let reason = readiness.body["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("starting: "), "{reason}");
    for path in ["/", "/v1/activities"] {
        early(&mut public, path).await;
    }
    early(&mut operations, "/metrics").await;
    held.release();
    held.process.wait_for_line(SOON, |line| line.contains("operations="));
    let home = public.request(Method::GET, "/", &[], None).await.unwrap();
    assert_eq!(home.status, StatusCode::OK, "{home}");
    let list = public.request(Method::GET, "/v1/activities", &[], None).await.unwrap();
    assert_eq!(list.body["items"][0]["name"], json!("Singles' Day 双十一"), "{list}");
    held.process.terminate();
    assert!(held.process.wait_for_exit(SOON).success(), "{}", held.process);
}

/// A request before the application is there.
async fn early(client: &mut Client, path: &str) {
    let early = client.request(Method::GET, path, &[], None).await.unwrap();
    assert_eq!((early.status.as_u16(), early.code()), (503, "not_ready"), "{path}: {early}");
    assert_eq!(early.header("content-type"), "application/problem+json");
    assert_eq!(early.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_the_start_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path().join("data"), vec![offer(1, Strategy::OrderTime, 10, None)]);
    let held = site.serve_held();
    held.process.terminate();
    assert!(held.process.wait_for_exit(SOON).success(), "{}", held.process);
    drop(held);
    site.audit();
}
