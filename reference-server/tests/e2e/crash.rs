//! `kill -9` and power cuts at random moments under load.

use std::time::{Duration, Instant};

use fastrand::Rng;
use flashsale_core::domain::Strategy;
use flashsale_testkit::{
    buyers::{ClientLog, Crowd, Offer, come_again, pay_late},
    checks::Census,
    disk::Disk,
    process::Process,
    say, scale,
};
use tokio::{task::JoinHandle, time};

use crate::site::{SOON, Server, Site, offer, seed};

const USERS_PER_ROUND: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_nothing() {
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
async fn a_power_cut_at_any_moment_loses_nothing() {
    let rounds = 10 * scale();
    let mut disk = match Disk::new(256) {
        Ok(disk) => disk,
        Err(refused) => {
            say(&format!("NOT RUN: power cuts: {refused}"));
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

/// Returns one offer per strategy with more units than all rounds sell, and one that sells out.
fn offers(rounds: u32) -> Vec<Offer> {
    let rounds = u64::from(rounds);
    let plenty = rounds * USERS_PER_ROUND;
    vec![
        offer(1, Strategy::OrderTime, plenty, None),
        offer(2, Strategy::PayTime, plenty, Some(2)),
        offer(3, Strategy::PreDeduct, plenty, Some(2)),
        offer(4, Strategy::PreDeduct, rounds * 20, Some(2)),
    ]
}

/// The state that the rounds of a test share.
struct Trial {
    name: &'static str,
    rounds: u32,
    seed: u64,
    random: Rng,
    notes: ClientLog,
    /// The index of the first purchase of this round.
    first: usize,
    start: Instant,
    load: Option<JoinHandle<()>>,
}

impl Trial {
    fn new(name: &'static str, rounds: u32) -> Self {
        let seed = seed(name);
        let (random, start) = (Rng::with_seed(seed), Instant::now());
        Self { name, rounds, seed, random, notes: ClientLog::new(), first: 0, start, load: None }
    }

    /// Starts a crowd and returns while it buys, a random time after a random number of orders.
    async fn load_until_a_random_moment(&mut self, round: u32, server: &Server, site: &Site) {
        self.first = self.notes.purchases().len();
        let first = 1 + u64::from(round) * USERS_PER_ROUND;
        let crowd = Crowd {
            users: first..first + USERS_PER_ROUND,
            offers: site.offers.clone(),
            connections: 32,
            seed: self.seed,
            part: None,
        };
        let moment = self.notes.acknowledged_so_far() + self.random.u64(1..USERS_PER_ROUND / 2);
        let (shop, notes) = (server.shop.clone(), self.notes.clone());
        self.load = Some(tokio::spawn(async move { crowd.buy(&shop, &notes).await }));
        let reached = time::timeout(SOON, self.notes.acknowledged(moment)).await;
        assert!(reached.is_ok(), "too few orders: {:?}\n{}", self.notes.counts(), server.process);
        // Responses follow a commit, so a random delay catches the next commits at any stage.
        self.random_time(5).await;
    }

    /// Restarts the server after the crash and compares its state with every response so far. Then
    /// all buyers repeat their requests, and the server stops in one of several ways, so that the
    /// next round starts from different files.
    async fn settle(&mut self, site: Site) -> Site {
        self.load.take().expect("a crowd").await.expect("a crowd does not panic");
        if self.random.u32(0..3) == 0 {
            let restart = Process::start(site.command("serve"));
            self.random_time(50).await;
            restart.kill();
            self.notes.count("restarts killed");
        }
        let server = site.serve();
        self.compare(&server, &site).await;
        come_again(&server.shop, &self.notes, self.first).await;
        self.compare(&server, &site).await;
        match self.random.u32(0..3) {
            0 => server.process.kill(),
            1 => {
                server.process.terminate();
                assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
                self.notes.count("stops in order");
            }
            _ => {
                server.process.terminate();
                self.random_time(50).await;
                server.process.kill();
                self.notes.count("stops killed");
            }
        }
        site
    }

    async fn compare(&self, server: &Server, site: &Site) {
        let census = Census::take(&server.shop, &self.notes, &site.offers).await;
        census.check(&site.offers, &self.notes).assert_none();
    }

    /// Checks in the end that late captures are accounted for, old holds expire, and audit passes.
    async fn finish(self, site: &Site) {
        let server = site.serve();
        pay_late(&server.shop, &self.notes).await.expect("the server is running");
        let census = Census::take_at_rest(&server.shop, &self.notes, &site.offers, SOON).await;
        census.check(&site.offers, &self.notes).assert_none();
        for what in ["declined sold_out", "told when asking again", "captured again", "captured late"] {
            assert!(self.notes.counted(what) > 0, "never happened: {what}: {:?}", self.notes.counts());
        }
        server.process.terminate();
        assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
        site.audit();
        say(&format!(
            "{}: {} rounds in {:.1} s; {} orders acknowledged, {} found, {} buyers interrupted; {:?}",
            self.name,
            self.rounds,
            self.start.elapsed().as_secs_f64(),
            self.notes.acknowledged_so_far(),
            census.orders.len(),
            self.notes.counted("interrupted"),
            self.notes.counts()
        ));
    }

    /// Sleeps for a random time below `most_ms` milliseconds.
    async fn random_time(&mut self, most_ms: u64) {
        time::sleep(Duration::from_micros(self.random.u64(0..most_ms * 1_000))).await;
    }
}
