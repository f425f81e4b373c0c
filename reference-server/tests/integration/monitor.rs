//! The invariant monitor in a running shop detects each violation, and its end.

use std::{fs, path::Path, sync::Arc, time::Duration};

use flashsale_core::ledger::{Consumer, Lane, LedgerCalls as _};
use hyper::{Method, StatusCode};
use reference_server::{
    backup,
    config::{Config, OperatorRole},
    monitoring::invariants::Invariant,
};
use serde_json::json;

use crate::{
    log::Log,
    metrics::scrape,
    shop::{Shop, catalogue},
};

/// Starts a shop whose monitor checks every second, and captures its log.
async fn watched(configure: impl FnOnce(&mut Config)) -> (Shop, Log) {
    let log = Log::start();
    let shop = Shop::with(|config| {
        config.monitor.period_seconds = 1;
        configure(config);
    })
    .await;
    (shop, log)
}

/// Waits until the monitor has completed a check that started after this call.
async fn look(shop: &Shop) {
    let mut looks = shop.app.monitor.looks();
    let before = *looks.borrow_and_update();
    looks.wait_for(|looks| *looks >= before + 2).await.unwrap();
}

/// Waits for the next check and returns the invariants that `/metrics` then reports as broken.
async fn broken(shop: &Shop) -> Vec<Invariant> {
    look(shop).await;
    let numbers = scrape(shop).await;
    let violations =
        |invariant| numbers[&format!("flashsale_invariant_violations{{invariant=\"{invariant}\"}}")];
    Invariant::ALL.into_iter().filter(|invariant| violations(*invariant) > 0.0).collect()
}

/// Checks the log for a line about an invariant. Only one test breaks each invariant.
#[track_caller]
fn expect_logged(log: &Log, what: &str, invariant: Invariant) {
    let (line, text) = (format!("{what} invariant={invariant} activity=1"), log.text());
    assert!(text.contains(&line), "{line:?} is not in the log:\n{text}");
}

async fn paid(shop: &Shop, user: u64) -> String {
    let buyer = shop.buyer(user).await;
    let order = buyer.buy(11, 2).await;
    let payment = buyer.pay(&order).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_consumer_is_detected() {
    let (shop, log) = watched(|config| config.monitor.outbox_entries = 8).await;
    let nobody = Consumer(Arc::from("nobody"));
    shop.app.sales.ledger().register(&nobody).await.unwrap();
    assert_eq!(broken(&shop).await, []);
    for user in 2..12 {
        shop.buyer(user).await.buy(11, 1).await;
    }
    assert_eq!(broken(&shop).await, [Invariant::Outbox]);
    expect_logged(&log, "an invariant is broken", Invariant::Outbox);
    assert_eq!(scrape(&shop).await["flashsale_obstacles"], 0.0, "the shop keeps selling");

    shop.app.sales.ledger().retire(&nobody).await.unwrap();
    assert_eq!(broken(&shop).await, []);
    expect_logged(&log, "an invariant holds again", Invariant::Outbox);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_that_do_not_expire_are_detected() {
    let (mut shop, log) = watched(|_| {}).await;
    shop.buyer(1).await.buy(11, 2).await;
    shop.stop_upkeep().await;
    // The order is held for 60 s, and the monitor tolerates another 30 s.
    shop.clock.advance(Duration::from_secs(90));
    assert_eq!(broken(&shop).await, []);
    shop.clock.advance(Duration::from_secs(1));
    assert_eq!(broken(&shop).await, [Invariant::Holds]);
    expect_logged(&log, "an invariant is broken", Invariant::Holds);
    assert_eq!(shop.stock(11).await["held"], 2, "the monitor repairs nothing");

    let lane = Lane::first(1_u64.try_into().unwrap());
    assert_eq!(shop.app.sales.ledger().expire_due(lane, 10).await.unwrap().expired.len(), 1);
    assert_eq!(broken(&shop).await, []);
    expect_logged(&log, "an invariant holds again", Invariant::Holds);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_that_the_provider_does_not_accept_are_detected() {
    let (shop, log) = watched(|config| config.monitor.refund_seconds = 60).await;
    let sandbox = shop.app.sandbox.clone().unwrap();
    let order = paid(&shop, 1).await;
    sandbox.fail(true);
    let why = json!({ "units_returned": true, "reason": "damaged in transit" });
    let path = format!("/v1/orders/{order}/refund");
    let refunded = shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&why)).await;
    assert_eq!(refunded.body["refund"]["status"], "due", "{refunded}");
    assert_eq!(broken(&shop).await, []);
    shop.clock.advance(Duration::from_secs(61));
    assert_eq!(broken(&shop).await, [Invariant::Refunds]);
    expect_logged(&log, "an invariant is broken", Invariant::Refunds);

    // The provider recovers, and the refund is retried as time passes.
    sandbox.fail(false);
    for _ in 0..60 {
        shop.clock.advance(Duration::from_secs(10));
        if broken(&shop).await.is_empty() {
            break;
        }
    }
    expect_logged(&log, "an invariant holds again", Invariant::Refunds);
    let path = format!("/v1/orders/{order}");
    let seen = shop.operate(OperatorRole::Auditor, Method::GET, &path, None).await;
    assert_eq!(seen.body["refund"]["status"], "done", "{seen}");
    shop.close().await;
}

/// The units of the forged offer. No other number in the snapshot has this value.
const UNITS: i64 = 7_654_321;

/// Forges the snapshot in a directory, with a valid checksum: the only bucket of an offer of
/// [`UNITS`] has received 3 units that no bucket sent. Only a fault or bug can cause this.
fn forge(directory: &Path) {
    const HASH: usize = blake3::OUT_LEN;
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let [snapshot] = names
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snapshot-"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let mut forged = fs::read(&snapshot).unwrap();
    forged.truncate(forged.len() - HASH);
    // Zigzag varints: the initial units of the bucket, then 0 units adjusted, sent and received.
    let mut before = Vec::new();
    let mut zigzag = 2 * UNITS.unsigned_abs();
    while zigzag > 0 {
        let last = u8::from(zigzag < 128);
        before.push(u8::try_from(zigzag % 128).unwrap() + 128 * (1 - last));
        zigzag /= 128;
    }
    before.extend([0, 0, 0]);
    let places: Vec<_> = (0..forged.len()).filter(|at| forged[*at..].starts_with(&before)).collect();
    let [place] = places[..] else { panic!("the units were found at {places:?}") };
    forged[place + before.len() - 1] = 2 * 3;
    let hash = blake3::hash(&forged);
    forged.extend(hash.as_bytes());
    fs::write(&snapshot, forged).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_out_of_nowhere_are_detected() {
    let (log, directory) = (Log::start(), tempfile::tempdir().unwrap());
    let [data, copy, restored] = ["data", "copy", "restored"].map(|name| directory.path().join(name));
    let start = async |data: &Path| {
        let configure = |config: &mut Config| {
            config.storage.directory = data.to_owned();
            config.monitor.period_seconds = 1;
        };
        Shop::start(configure).await
    };
    let shop = start(&data).await;
    let mut sale = catalogue();
    sale["activities"][0]["offers"][0]["units"] = json!(UNITS);
    shop.import(&sale).await;
    paid(&shop, 1).await;
    shop.buyer(2).await.buy(11, 1).await;
    assert_eq!(broken(&shop).await, []);
    let backup = json!({ "directory": copy });
    let made = shop.operate(OperatorRole::Operator, Method::POST, "/v1/backup", Some(&backup)).await;
    assert_eq!(made.status, StatusCode::OK, "{made}");
    shop.close().await;

    forge(&data);
    let shop = start(&data).await;
    assert_eq!(broken(&shop).await, [Invariant::Units]);
    expect_logged(&log, "an invariant is broken", Invariant::Units);
    let stock = shop.stock(11).await;
    assert_eq!(stock["available"], json!(UNITS), "3 of them are sold or held");
    shop.buyer(3).await.buy(11, 1).await;
    shop.close().await;

    backup::restore(&copy, &restored).unwrap();
    let shop = start(&restored).await;
    assert_eq!(broken(&shop).await, []);
    shop.close().await;
}
