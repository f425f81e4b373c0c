//! `kill -9` and power cuts at random moments under load.

use std::time::Instant;

use fastrand::Rng;
use flashsale_core::domain::Strategy;
use flashsale_testkit::{
    buyers::{Crowd, Notes, Offer},
    checks::Census,
    disk::Disk,
    scale,
};

use crate::{
    crowd::all_holds_end,
    site::{SOON, Server, Site, offer, seed},
};

const USERS_PER_ROUND: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_any_moment_loses_nothing() {
    let rounds = 20 * scale();
    let directory = tempfile::tempdir().unwrap();
    let mut site = Site::new(directory.path().join("data"), offers(rounds));
    let mut trial = Trial::new("kill -9", rounds);
    for round in 0..rounds {
        let server = site.serve();
        trial.load_until_a_random_moment(round, &server, &site).await;
        server.process.kill();
        site = trial.settle(site).await;
    }
    trial.finish(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cut_at_any_moment_loses_nothing() {
    let rounds = 10 * scale();
    let mut disk = match Disk::new(256) {
        Ok(disk) => disk,
        Err(refused) => {
            println!("NOT RUN: {refused}");
            return;
        }
    };
    let mut site = Site::new(disk.path().join("data"), offers(rounds));
    let mut trial = Trial::new("power cut", rounds);
    for round in 0..rounds {
        let server = site.serve();
        trial.load_until_a_random_moment(round, &server, &site).await;
        disk = disk.power_cut(&server.process);
        site = trial.settle(site.moved_to(disk.path().join("data"))).await;
    }
    trial.finish(&site).await;
}

/// One offer of each strategy, with more units than all rounds sell, and short holds.
fn offers(rounds: u32) -> Vec<Offer> {
    let units = u64::from(rounds) * USERS_PER_ROUND;
    vec![
        offer(1, Strategy::OrderTime, units, None),
        offer(2, Strategy::PayTime, units, Some(2)),
        offer(3, Strategy::PreDeduct, units, Some(2)),
    ]
}

/// What the rounds of a test share.
struct Trial {
    name: &'static str,
    rounds: u32,
    seed: u64,
    random: Rng,
    notes: Notes,
    start: Instant,
    load: Option<tokio::task::JoinHandle<()>>,
}

impl Trial {
    fn new(name: &'static str, rounds: u32) -> Self {
        let seed = seed(name);
        let (random, start) = (Rng::with_seed(seed), Instant::now());
        Self { name, rounds, seed, random, notes: Notes::new(), start, load: None }
    }

    /// Starts a crowd, and returns while it buys: when a random number of its orders has been acknowledged.
    async fn load_until_a_random_moment(&mut self, round: u32, server: &Server, site: &Site) {
        let first = 1 + u64::from(round) * USERS_PER_ROUND;
        let crowd = Crowd {
            users: first..first + USERS_PER_ROUND,
            offers: site.offers.clone(),
            connections: 32,
            seed: self.seed,
            part: None,
        };
        let orders = self.random.u64(1..USERS_PER_ROUND / 2);
        println!(
            "{} {round}: after {orders} more orders than {}",
            self.name,
            self.notes.acknowledged_so_far()
        );
        let moment = self.notes.acknowledged_so_far() + orders;
        let (shop, notes) = (server.shop.clone(), self.notes.clone());
        self.load = Some(tokio::spawn(async move { crowd.buy(&shop, &notes).await }));
        let reached = tokio::time::timeout(SOON, self.notes.acknowledged(moment)).await;
        assert!(
            reached.is_ok(),
            "the crowd got no {orders} orders: {:?}\n{}",
            self.notes.counts(),
            server.process
        );
    }

    /// After the crash: waits for the crowd to notice, restarts the server, and compares everything that was ever told
    /// with what is there. Then stops it as a crash does, so that the next round starts from the same files.
    async fn settle(&mut self, site: Site) -> Site {
        self.load.take().expect("a crowd").await.expect("a crowd does not panic");
        let server = site.serve();
        let census = Census::take(&server.shop, &self.notes, &site.offers).await;
        census.check(&site.offers, &self.notes).assert_none();
        server.process.kill();
        site
    }

    /// After the last round: holds of before the crashes end, late captures are accounted for, and the audit agrees.
    async fn finish(self, site: &Site) {
        let server = site.serve();
        let with_hold = || site.offers.iter().filter(|offer| offer.hold_seconds.is_some());
        for offer in with_hold() {
            all_holds_end(&server.shop, offer).await;
        }
        let census = Census::take(&server.shop, &self.notes, &site.offers).await;
        census.check(&site.offers, &self.notes).assert_none();
        server.process.terminate();
        assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
        site.audit();
        println!(
            "{}: {} rounds in {:.1} s; {} orders told, {} there, {} buyers interrupted; {:?}",
            self.name,
            self.rounds,
            self.start.elapsed().as_secs_f64(),
            self.notes.acknowledged_so_far(),
            census.orders.len(),
            self.notes.counted("interrupted"),
            self.notes.counts()
        );
    }
}
