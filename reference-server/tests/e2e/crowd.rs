//! Ten thousand buyers compete for a thousand units.

use std::time::Instant;

use flashsale_core::domain::Strategy;
use flashsale_testkit::{
    buyers::{BuyerScript, ClientLog, Crowd, Ending, Offer, Sending, pay_late},
    checks::Census,
    say, scale,
};

use crate::site::{SOON, Site, offer, seed};

const BUYERS: u64 = 10_000;
const UNITS: u64 = 1_000;

/// Events that must happen at least once; otherwise the run proves nothing about them.
const HAPPENS: [&str; 10] = [
    "cancelled",
    "captured late",
    "declined key_reused",
    "declined limit_reached",
    "declined sold_out",
    "declined ticket_used",
    "hung up",
    "paid",
    "payment failed",
    "replayed",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_buyers_compete_for_a_thousand_units_with_order_time() {
    sell_out(offer(1, Strategy::OrderTime, UNITS, Some(3))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_buyers_compete_for_a_thousand_units_with_pay_time() {
    sell_out(offer(1, Strategy::PayTime, UNITS, Some(3))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_buyers_compete_for_a_thousand_units_with_pre_deduct() {
    sell_out(offer(1, Strategy::PreDeduct, UNITS, Some(3))).await;
}

/// Runs a crowd with every kind of buyer, then late payments, then a second crowd that buys and
/// pays for the returned units. At the end every unit is sold.
async fn sell_out(offer: Offer) {
    let name = format!("{:?}", offer.strategy);
    let seed = seed(&name);
    for round in 0..u64::from(scale()) {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::new(directory.path().join("data"), vec![offer]);
        let server = site.serve();
        let notes = ClientLog::new();
        let start = Instant::now();

        let crowd = Crowd {
            users: 1..1 + BUYERS,
            offers: vec![offer],
            connections: 64,
            seed: seed.wrapping_add(round),
            part: None,
        };
        crowd.buy(&server.shop, &notes).await;
        let rush = start.elapsed();

        pay_late(&server.shop, &notes).await.expect("the server is running");
        for what in HAPPENS {
            assert!(notes.counted(what) > 0, "{name}: never happened: {what}: {:?}", notes.counts());
        }
        let census = Census::take_at_rest(&server.shop, &notes, &site.offers, SOON).await;
        census.check(&site.offers, &notes).assert_none();

        let second = Crowd {
            users: 100_000..100_000 + 2 * UNITS,
            part: Some(BuyerScript { sending: Sending::Once, ending: Ending::Pay, quantity: 1 }),
            ..crowd
        };
        second.buy(&server.shop, &notes).await;
        let census = Census::take(&server.shop, &notes, &site.offers).await;
        census.check(&site.offers, &notes).assert_none();
        let stock = census.stock[&(offer.activity, offer.sku)];
        assert_eq!(
            (stock.sold, stock.held, stock.available),
            (UNITS, 0, 0),
            "{name}: returned units were not sold again"
        );

        server.process.terminate();
        assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
        site.audit();
        say(&format!(
            "{name}: {BUYERS} buyers in {:.1} s, {:.1} s in total; {} orders acknowledged, {} found, \
             {stock:?}; {:?}",
            rush.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            notes.acknowledged_so_far(),
            census.orders.len(),
            notes.counts()
        ));
    }
}
