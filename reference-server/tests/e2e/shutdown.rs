//! SIGTERM under load.

use std::collections::BTreeSet;

use fastrand::Rng;
use flashsale_core::domain::{OrderRef, Strategy, UserId};
use flashsale_testkit::{
    buyers::{ClientLog, Crowd},
    checks::Census,
    say, scale,
};

use crate::site::{SOON, Site, offer, seed};

/// Every acknowledged order exists. Every order was acknowledged, unless its buyer hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_loses_nothing() {
    let seed = seed("SIGTERM");
    let mut random = Rng::with_seed(seed);
    let rounds = 5 * u64::from(scale());
    let directory = tempfile::tempdir().unwrap();
    let offers = vec![
        offer(1, Strategy::OrderTime, 100_000, None),
        offer(2, Strategy::PayTime, 100_000, Some(600)),
        offer(3, Strategy::PreDeduct, 100_000, Some(600)),
    ];
    let site = Site::new(directory.path().join("data"), offers);
    let notes = ClientLog::new();
    for round in 0..rounds {
        let server = site.serve();
        let users = 1 + round * 5_000..1 + (round + 1) * 5_000;
        let crowd = Crowd { users, offers: site.offers.clone(), connections: 32, seed, part: None };
        let load = tokio::spawn({
            let (shop, notes) = (server.shop.clone(), notes.clone());
            async move { crowd.buy(&shop, &notes).await }
        });
        let moment = notes.acknowledged_so_far() + random.u64(1..2_000);
        let reached = tokio::time::timeout(SOON, notes.acknowledged(moment)).await;
        assert!(reached.is_ok(), "{:?}\n{}", notes.counts(), server.process);
        // Supervisors and process groups may send SIGTERM twice; it must count once.
        server.process.terminate();
        server.process.terminate();
        assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
        load.await.unwrap();
    }

    let server = site.serve();
    let census = Census::take(&server.shop, &notes, &site.offers).await;
    census.check(&site.offers, &notes).assert_none();
    let purchases = notes.purchases();
    let told: BTreeSet<OrderRef> =
        purchases.iter().filter_map(|purchase| Some(purchase.placed.as_ref()?.order)).collect();
    let hung_up: BTreeSet<UserId> =
        purchases.iter().filter(|purchase| purchase.hung_up).map(|purchase| purchase.user).collect();
    for order in &census.orders {
        let user = order.user.unwrap();
        assert!(
            told.contains(&order.order_id) || hung_up.contains(&user),
            "no response told user {user} about {order:?}"
        );
    }
    say(&format!(
        "SIGTERM: {rounds} rounds, {} orders acknowledged, {} found; {:?}",
        told.len(),
        census.orders.len(),
        notes.counts()
    ));
}
