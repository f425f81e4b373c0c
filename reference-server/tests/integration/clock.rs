//! Jumps of the machine's clock, seen from outside.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flashsale_core::{
    admission::Mode,
    clock::{OperatingSystem, TimeSource},
    domain::Timestamp,
};
use hyper::{Method, StatusCode};
use reference_server::config::{Config, OperatorRole};
use serde_json::{Value, json};

use crate::shop::{Shop, catalogue, expect};

/// An hour back, 8 s back, two minutes forward, an hour forward.
const JUMPS: [i64; 4] = [-3_600_000, -8_000, 120_000, 3_600_000];
/// How long a test waits for what takes a background job a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clocks of a machine. Both can be moved on together, and the wall can jump.
#[derive(Debug, Default)]
struct Machine {
    real: OperatingSystem,
    passed_ms: AtomicU64,
    off_ms: AtomicI64,
}

impl Machine {
    /// Lets time pass.
    fn pass(&self, seconds: u64) {
        self.passed_ms.fetch_add(1_000 * seconds, Ordering::SeqCst);
    }

    /// Sets the wall that far off.
    fn set_off(&self, off_ms: i64) {
        self.off_ms.store(off_ms, Ordering::SeqCst);
    }
}

impl TimeSource for Machine {
    fn monotonic(&self) -> Duration {
        self.real.monotonic() + Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        let passed = Duration::from_millis(self.passed_ms.load(Ordering::SeqCst));
        self.real.wall().after(passed).moved(self.off_ms.load(Ordering::SeqCst))
    }
}

/// A sale whose window contains every jump.
fn long_sale() -> Value {
    let mut document = catalogue();
    document["activities"][0]["starts_at"] = json!("now-3h");
    document
}

fn quiet(config: &mut Config) {
    config.storage.in_memory = true;
    config.guard.set_all(Mode::Off);
}

async fn open(machine: &Arc<Machine>, configure: impl FnOnce(&mut Config)) -> Shop {
    let shop = Shop::steered(Arc::clone(machine) as _, |config| {
        quiet(config);
        configure(config);
    })
    .await;
    shop.import(&long_sale()).await;
    shop
}

async fn on(machine: &Arc<Machine>, directory: &Path) -> Shop {
    Shop::steered(Arc::clone(machine) as _, |config| {
        config.guard.set_all(Mode::Off);
        config.storage.directory = directory.to_owned();
    })
    .await
}

async fn clock(shop: &Shop) -> Value {
    let answer = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/clock", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    answer.body
}

/// Waits until the clock shows what is wanted.
async fn until(shop: &Shop, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let shown = clock(shop).await;
        if wanted(&shown) {
            return shown;
        }
        assert!(began.elapsed() < PATIENCE, "{shown}");
    }
}

fn millis(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

/// How long the jump of `shown` has been doubted, in milliseconds; 0 if none is.
fn doubted_for(shown: &Value) -> i64 {
    if shown["doubt"].is_null() { 0 } else { millis(&shown["now"]) - millis(&shown["doubt"]["since"]) }
}

#[track_caller]
fn near(a: i64, b: i64) {
    assert!((a - b).abs() <= 5_000, "{a} and {b} differ by {} ms", a - b);
}

/// Waits until the server is ready: the views of the time before are renewed at once.
async fn ready(shop: &Shop) {
    let began = Instant::now();
    while shop.call_operations("/readyz").await.status != StatusCode::OK {
        assert!(began.elapsed() < Duration::from_secs(1), "{}", shop.call_operations("/readyz").await);
    }
}

async fn time(shop: &Shop) -> i64 {
    millis(&shop.read("/v1/time").await.body["now"])
}

async fn state_of_11(shop: &Shop) -> Value {
    shop.read("/v1/activities/1/status").await.body["offers"][0]["state"].clone()
}

/// Waits until an order of the buyer has ended, and returns whether that took less than 5 s.
async fn ends(shop: &Shop, user: u64, order: &str) {
    let shown = shop.buyer(user).await.watch(order, "expired").await;
    assert_eq!(shown["status"], "expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_that_vanishes_leaves_no_trace() {
    let machine = Arc::new(Machine::default());
    let shop = open(&machine, |_| {}).await;
    for (user, off_ms) in (1..).zip(JUMPS) {
        let buyer = shop.buyer(user).await;
        let before = buyer.buy(11, 1).await;
        let right = time(&shop).await;
        machine.set_off(off_ms);
        let shown = until(&shop, |shown| !shown["doubt"].is_null()).await;
        near(shown["offset_ms"].as_i64().unwrap(), off_ms);
        near(millis(&shown["wall"]) - millis(&shown["now"]), off_ms);
        let refused = shop.call_operations("/readyz").await;
        expect(&refused, 503, "not_ready");
        let reason = refused.body["reasons"][0].as_str().unwrap();
        let direction = if off_ms < 0 { "behind" } else { "ahead of" };
        assert!(reason.starts_with("clock: ") && reason.contains(direction), "{reason}");
        let metrics = shop.call_operations("/metrics").await;
        let offset = metrics.body.as_str().unwrap().lines().find_map(|line| {
            line.strip_prefix("flashsale_clock_offset_seconds ").and_then(|value| value.parse::<f64>().ok())
        });
        assert!((offset.unwrap() * 1_000.0 - off_ms as f64).abs() < 5_000.0, "{offset:?}");

        // Pages, status and decisions go on by the server's own time.
        near(time(&shop).await, right);
        assert_eq!(state_of_11(&shop).await, "on_sale");
        let order = shop.order_with(&buyer.ticket(11).await, &[], 1).await;
        assert_eq!(order.status, StatusCode::CREATED, "{order}");
        near(millis(&order.body["reserved_until"]), right + 60_000);
        assert_eq!(buyer.read(&before).await["status"], "pending");

        machine.set_off(0);
        until(&shop, |shown| shown["doubt"].is_null()).await;
        ready(&shop).await;
        machine.pass(50);
        until(&shop, |shown| shown["doubt"].is_null()).await;
        assert_eq!(buyer.read(&before).await["status"], "pending", "a hold of 60 s does not end early");
        machine.pass(11);
        ends(&shop, user, &before).await;
        assert_eq!(clock(&shop).await["steps"], 0);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_that_persists_moves_time_and_holds_together() {
    let machine = Arc::new(Machine::default());
    let shop = open(&machine, |_| {}).await;
    let (mut off_ms, mut steps) = (0, 0);
    for (user, jump_ms) in (1..).zip(JUMPS) {
        let buyer = shop.buyer(user).await;
        let waiting = buyer.buy(11, 1).await;
        let paying = buyer.buy(11, 1).await;
        let deadline = millis(&buyer.read(&waiting).await["reserved_until"]);
        let payment = buyer.pay(&paying).await;
        off_ms += jump_ms;
        steps += 1;
        machine.set_off(off_ms);
        until(&shop, |shown| !shown["doubt"].is_null()).await;
        machine.pass(20);
        until(&shop, |shown| !shown["doubt"].is_null()).await;
        assert_eq!(clock(&shop).await["steps"], steps - 1, "20 s are not enough");
        machine.pass(10);
        let shown = until(&shop, |shown| shown["steps"] == steps).await;
        assert!(shown["offset_ms"].as_i64().unwrap().abs() < 100, "{shown}");
        near(time(&shop).await, millis(&shown["wall"]));
        ready(&shop).await;
        assert_eq!(state_of_11(&shop).await, "on_sale");

        // 30 of 60 s are over, whatever the clock shows.
        let moved = buyer.read(&waiting).await;
        assert_eq!(moved["status"], "pending");
        near(millis(&moved["reserved_until"]), deadline + jump_ms);
        near(millis(&moved["reserved_until"]), time(&shop).await + 30_000);
        let order = shop.order_with(&buyer.ticket(11).await, &[], 1).await;
        assert_eq!(order.status, StatusCode::CREATED, "{order}");
        near(millis(&order.body["reserved_until"]), time(&shop).await + 60_000);
        let capture = format!("/sandbox/payments/{payment}/capture");
        assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
        assert_eq!(buyer.read(&paying).await["status"], "paid");
        machine.pass(25);
        until(&shop, |shown| shown["doubt"].is_null()).await;
        assert_eq!(buyer.read(&waiting).await["status"], "pending", "a hold of 60 s does not end early");
        machine.pass(6);
        ends(&shop, user, &waiting).await;
        machine.pass(60);
        ends(&shop, user, order.text("order_id")).await;
    }
    let rows = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/audit?limit=100", None).await;
    let steps: Vec<_> = rows.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["action"] == "clock.stepped")
        .map(|row| (row["actor"].clone(), row["detail"]["by_ms"].as_i64().unwrap()))
        .collect();
    assert_eq!(steps.len(), JUMPS.len(), "one row for each step: {rows}");
    for ((actor, by_ms), jump_ms) in steps.into_iter().zip(JUMPS) {
        assert_eq!(actor, "clock");
        near(by_ms, jump_ms);
    }
    shop.close().await;
}

/// Buyers order and cancel all the time.
async fn load(shop: &Shop, user: u64, stop: &AtomicBool, longest: &AtomicU64, placed: &AtomicU64) -> u64 {
    let buyer = shop.buyer(user).await;
    let (mut last, mut orders) = (Instant::now(), 0);
    while !stop.load(Ordering::SeqCst) {
        let ticket = buyer.ask_for_ticket(1, 11).await;
        // A ticket of the hour that was wrong may have ended, or not begun.
        if ticket.status == StatusCode::OK {
            let order = shop.order_with(ticket.text("ticket"), &[], 1).await;
            assert!(!order.status.is_server_error(), "{order}");
            if order.status == StatusCode::CREATED {
                orders += 1;
                placed.fetch_add(1, Ordering::SeqCst);
                let gap = u64::try_from(last.elapsed().as_millis()).unwrap();
                longest.fetch_max(gap, Ordering::SeqCst);
                last = Instant::now();
                let cancel = format!("/v1/orders/{}/cancel", order.text("order_id"));
                let cancelled = buyer.call(Method::POST, &cancel).await;
                assert_eq!(cancelled.status, StatusCode::OK, "{cancelled}");
            }
        }
    }
    longest.fetch_max(u64::try_from(last.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_through_jumps_under_load() {
    let machine = Arc::new(Machine::default());
    let shop = open(&machine, |config| config.clock.believe_after_seconds = 2).await;
    let (stop, longest, placed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let jumps = async {
        let (mut off_ms, mut steps) = (0, 0);
        for jump_ms in JUMPS {
            // For a second.
            machine.set_off(off_ms + jump_ms);
            until(&shop, |shown| doubted_for(shown) >= 1_000).await;
            machine.set_off(off_ms);
            until(&shop, |shown| shown["doubt"].is_null()).await;
            assert_eq!(clock(&shop).await["steps"], steps);
            // For good.
            off_ms += jump_ms;
            steps += 1;
            machine.set_off(off_ms);
            until(&shop, |shown| shown["steps"] == steps).await;
            let before = placed.load(Ordering::SeqCst);
            until(&shop, |_| placed.load(Ordering::SeqCst) >= before + 20).await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let ((), a, b, c) = tokio::join!(
        jumps,
        load(&shop, 1, &stop, &longest, &placed),
        load(&shop, 2, &stop, &longest, &placed),
        load(&shop, 3, &stop, &longest, &placed)
    );
    let longest = longest.load(Ordering::SeqCst);
    println!("{} orders, longest standstill {longest} ms", a + b + c);
    assert!(a + b + c > 100, "{a} + {b} + {c} orders");
    assert!(longest < 5_000, "a sale stood still for {longest} ms");
    let stock = shop.stock(11).await;
    assert_eq!((&stock["held"], &stock["available"]), (&json!(0), &json!(100)), "{stock}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_behind_the_last_entry_stretches_no_hold() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::new(Machine::default());
    machine.set_off(3_600_000);
    let shop = on(&machine, directory.path()).await;
    shop.import(&long_sale()).await;
    let order = shop.buyer(1).await.buy(11, 1).await;
    let decided = time(&shop).await;
    shop.close().await;

    machine.set_off(0);
    let shop = on(&machine, directory.path()).await;
    // The server goes on with the time of its last decision, and sells by it.
    near(time(&shop).await, decided);
    until(&shop, |shown| !shown["doubt"].is_null()).await;
    expect(&shop.call_operations("/readyz").await, 503, "not_ready");
    let next = shop.order_with(&shop.buyer(2).await.ticket(11).await, &[], 1).await;
    near(millis(&next.body["reserved_until"]), decided + 60_000);
    machine.pass(30);
    let shown = until(&shop, |shown| shown["steps"] == 1).await;
    near(time(&shop).await, millis(&shown["wall"]));
    ready(&shop).await;
    let held = shop.buyer(1).await.read(&order).await;
    near(millis(&held["reserved_until"]), time(&shop).await + 30_000);
    machine.pass(25);
    until(&shop, |shown| shown["doubt"].is_null()).await;
    assert_eq!(shop.buyer(1).await.read(&order).await["status"], "pending");
    machine.pass(6);
    ends(&shop, 1, &order).await;
    shop.close().await;

    // What was stepped stays so.
    let shop = on(&machine, directory.path()).await;
    until(&shop, |shown| shown["doubt"].is_null() && shown["steps"] == 0).await;
    shop.buyer(3).await.buy(11, 1).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_confirms_a_jump() {
    const STEP: &str = "/v1/clock/step";
    let machine = Arc::new(Machine::default());
    let shop = open(&machine, |_| {}).await;
    let body = json!({ "reason": "the time server was wrong" });
    let step = async |role| shop.operate(role, Method::POST, STEP, Some(&body)).await;
    for role in [OperatorRole::Creator, OperatorRole::Reviewer, OperatorRole::Auditor] {
        expect(&step(role).await, 403, "forbidden");
    }
    expect(&step(OperatorRole::Operator).await, 409, "wrong_state");
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    // A wrong jump was believed, and is taken back on an operator's word.
    for (steps, (off_ms, reason)) in (1..).zip([(3_600_000, None), (0, Some("it is right again"))]) {
        machine.set_off(off_ms);
        until(&shop, |shown| !shown["doubt"].is_null()).await;
        let body = json!({ "reason": reason.unwrap_or("the time server was wrong") });
        let stepped = shop.operate(OperatorRole::Operator, Method::POST, STEP, Some(&body)).await;
        assert_eq!(stepped.status, StatusCode::OK, "{stepped}");
        assert_eq!((&stepped.body["steps"], &stepped.body["doubt"]), (&json!(steps), &Value::Null));
        near(time(&shop).await, millis(&stepped.body["wall"]));
        assert_eq!(shop.call_operations("/readyz").await.status, StatusCode::OK);
        let held = buyer.read(&order).await;
        near(millis(&held["reserved_until"]), time(&shop).await + 60_000);
    }
    let rows = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/audit?limit=100", None).await;
    let rows = rows.body["items"].as_array().unwrap();
    let reasons: Vec<_> = rows
        .iter()
        .filter(|row| row["action"] == "clock.stepped")
        .map(|row| (row["actor"].as_str().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    let actor = "test operator";
    assert_eq!(reasons, [(actor, "the time server was wrong"), (actor, "it is right again")]);
    shop.close().await;
}
