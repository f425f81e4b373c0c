//! What is over costs nothing: no work for activities that cannot change, and bounded pages.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use flashsale_core::domain::Clock as _;
use hyper::{Method, StatusCode};
use reference_server::{config::OperatorRole, rfc3339::Rfc3339};
use serde_json::{Value, json};

use crate::shop::{Shop, catalogue};

/// Activities that are over, from 1,001 on, each with a product of its own.
fn over(count: u64) -> Value {
    let price = json!({ "amount": 9900, "currency": "CNY" });
    let products = (1..=count).map(|n| json!({ "id": (1_000 + n).to_string(), "name": format!("past {n}") }));
    let skus = (1..=count).map(|n| {
        let id = (1_000 + n).to_string();
        json!({ "id": id, "product_id": id, "name": "L", "list_price": price })
    });
    let activities = (1..=count).map(|n| {
        json!({
            "id": (1_000 + n).to_string(), "name": format!("past sale {n}"), "starts_at": "now-200h",
            "ends_at": format!("now-{}m", 60 + n), "creator": "chen", "reviewer": "li", "status": "published",
            "offers": [{
                "sku_id": (1_000 + n).to_string(), "price": price, "units": 100, "strategy": "pre_deduct",
                "hold_seconds": 60, "limits": [],
            }],
        })
    });
    json!({
        "products": products.collect::<Vec<_>>(), "skus": skus.collect::<Vec<_>>(),
        "activities": activities.collect::<Vec<_>>(),
    })
}

fn calls(shop: &Shop) -> u64 {
    shop.app.inspector.commits().unwrap().calls.load(Ordering::Relaxed)
}

/// Waits for `count` checks of the invariants, one a second; returns the ledger calls meanwhile.
async fn calls_during(shop: &Shop, count: u64) -> u64 {
    let mut looks = shop.app.monitor.looks();
    looks.changed().await.unwrap();
    let (before, first) = (calls(shop), *looks.borrow_and_update());
    looks.wait_for(|looks| *looks >= first + count).await.unwrap();
    calls(shop) - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activities_that_are_over_cause_no_work() {
    let shop = Shop::start(|config| {
        config.storage.in_memory = true;
        config.monitor.period_seconds = 1;
    })
    .await;
    shop.import(&over(300)).await;
    // The first looks at new lanes end within seconds.
    let mut quiet = calls_during(&shop, 2).await;
    for _ in 0..10 {
        if quiet < 60 {
            break;
        }
        quiet = calls_during(&shop, 2).await;
    }
    // The slow round looks at one of them every two seconds. Polling made 7,800 calls a second.
    assert!(quiet < 60, "{quiet} calls of the ledger in 2 s");
    let status = shop.read("/v1/activities/1150/status").await;
    assert_eq!((status.status, &status.body["phase"]), (StatusCode::OK, &json!("ended")), "{status}");
    assert_eq!(shop.call_operations("/readyz").await.status, StatusCode::OK);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_an_activity_costs_the_same_among_few_and_many() {
    let mut costs = Vec::new();
    for count in [3, 300] {
        let shop = Shop::start(|config| {
            config.storage.in_memory = true;
            config.monitor.period_seconds = 1;
        })
        .await;
        shop.import(&over(count)).await;
        while calls_during(&shop, 2).await > 60 {}
        let one = over(1).to_string().replace("1001", "9001").replace("past", "one more");
        costs.push(published(&shop, &serde_json::from_str(&one).unwrap()).await);
        assert_eq!(shop.read("/v1/activities/9001/status").await.status, StatusCode::OK);
        shop.close().await;
    }
    assert!(costs[1] < costs[0] + 60, "ledger calls among 3 and 300 others: {costs:?}");
}

/// Creates and publishes the only activity of a catalogue by the steps of operators. Returns the
/// ledger calls of the steps.
async fn published(shop: &Shop, catalogue: &Value) -> u64 {
    use OperatorRole::{Creator, Operator, Reviewer};
    let set = json!({ "products": catalogue["products"], "skus": catalogue["skus"] });
    shop.import(&set).await;
    while calls_during(shop, 2).await > 60 {}
    let before = calls(shop);
    let mut activity = catalogue["activities"][0].clone();
    let now = shop.clock.now();
    for (field, ahead) in [("starts_at", 3_600), ("ends_at", 7_200)] {
        activity[field] = json!(Rfc3339(now.after(Duration::from_secs(ahead))).to_string());
    }
    for field in ["creator", "reviewer", "status"] {
        activity.as_object_mut().unwrap().remove(field);
    }
    let created = shop.operate(Creator, Method::POST, "/v1/activities", Some(&activity)).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created}");
    for (role, step) in [(Creator, "submit"), (Reviewer, "approve"), (Operator, "publish")] {
        let path = format!("/v1/activities/9001/{step}");
        let stepped = shop.operate(role, Method::POST, &path, None).await;
        assert_eq!(stepped.status, StatusCode::OK, "{step}: {stepped}");
    }
    calls(shop) - before
}

/// The first touch after a long rest: the money of an order that expired comes late and goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_capture_wakes_an_activity_that_is_over() {
    let shop = Shop::with(|config| config.monitor.period_seconds = 1).await;
    let buyer = shop.buyer(7).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    shop.clock.advance(Duration::from_secs(7 * 3_600));
    buyer.watch(&order, "expired").await;
    // Until nothing of either activity is read any more.
    while calls_during(&shop, 1).await > 30 {}
    let capture = format!("/sandbox/payments/{payment}/capture");
    let late = shop.call(Method::POST, &capture, &[], None).await;
    assert_eq!(late.status, StatusCode::OK, "{late}");
    let headers = [("authorization", buyer.session.as_str()), ("prefer", "wait=10")];
    loop {
        let path = format!("/v1/orders/{order}");
        let seen = shop.call(Method::GET, &path, &headers, None).await.body;
        if seen["refund"]["status"] == "done" {
            break;
        }
        assert_eq!(seen["refund"]["status"], "due", "{seen}");
    }
    shop.close().await;
}

/// Waits until an activity is in memory, or is not.
async fn until_in_memory(shop: &Shop, activity: u64, wanted: bool) {
    let mut looks = shop.app.monitor.looks();
    while shop.app.sales.sale(activity.try_into().unwrap()).is_some() != wanted {
        looks.changed().await.unwrap();
    }
}

async fn in_memory(shop: &Shop) -> f64 {
    let metrics = shop.call_operations("/metrics").await;
    let text = metrics.body.as_str().unwrap();
    let line = text.lines().find(|line| line.starts_with("flashsale_activities_in_memory ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Archiving takes an activity out of memory, and nobody who asks about its orders notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_activity_leaves_memory_and_its_orders_stay() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        Shop::start(|config| {
            config.storage.directory = directory.path().into();
            config.monitor.period_seconds = 1;
        })
    };
    let shop = start().await;
    shop.import(&catalogue()).await;
    let buyer = shop.buyer(7).await;
    let ticket = buyer.ticket(11).await;
    let placed = shop.order_with(&ticket, &[], 1).await;
    let order = placed.text("order_id").to_owned();
    let payment = buyer.pay(&order).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    let paid = buyer.watch(&order, "paid").await;
    let found = shop.operate(OperatorRole::Operator, Method::GET, &format!("/v1/orders/{order}"), None).await;
    let stock = shop.stock(11).await;
    let before = in_memory(&shop).await;
    for step in ["end", "archive"] {
        let path = format!("/v1/activities/1/{step}");
        let stepped = shop.operate(OperatorRole::Operator, Method::POST, &path, None).await;
        assert_eq!(stepped.status, StatusCode::OK, "{step}: {stepped}");
    }
    until_in_memory(&shop, 1, false).await;
    assert_eq!(in_memory(&shop).await, before - 1.0);

    // Its buyer, the support and the stock list see what they saw.
    assert_eq!(buyer.read(&order).await, paid);
    let list = buyer.call(Method::GET, "/v1/orders").await;
    assert_eq!(list.body["items"][0]["order_id"], *order, "{list}");
    let again = shop.operate(OperatorRole::Operator, Method::GET, &format!("/v1/orders/{order}"), None).await;
    assert_eq!(again.body, found.body);
    assert_eq!(shop.stock(11).await, stock);
    let stranger = shop.buyer(8).await.call(Method::GET, &format!("/v1/orders/{order}")).await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND);
    // References that somebody made up.
    for path in ["/v1/orders/1-9ix/cancel", "/v1/orders/1-9ix/payment", "/sandbox/payments/1-0-9ix/capture"] {
        assert_eq!(buyer.call(Method::POST, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(shop.app.sales.sale(1.try_into().unwrap()).is_none(), "reading brought it back");
    assert_eq!(in_memory(&shop).await, before - 1.0);
    shop.close().await;

    // After a restart, a retry gets its order, and a refund is made.
    let shop = start().await;
    assert!(shop.app.sales.sale(1.try_into().unwrap()).is_none());
    let buyer = shop.buyer(7).await;
    assert_eq!(buyer.read(&order).await["status"], "paid");
    let replayed = shop.order_with(&ticket, &[], 1).await;
    assert_eq!((replayed.status, replayed.text("order_id")), (StatusCode::OK, &*order), "{replayed}");
    let refund = json!({ "reason": "a test", "units_returned": true });
    let path = format!("/v1/orders/{order}/refund");
    let refunded = shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&refund)).await;
    assert_eq!(refunded.status, StatusCode::OK, "{refunded}");
    until_in_memory(&shop, 1, true).await;
    let headers = [("authorization", buyer.session.as_str()), ("prefer", "wait=10")];
    while shop.call(Method::GET, &format!("/v1/orders/{order}"), &headers, None).await.body["refund"]["status"]
        != "done"
    {}
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_home_page_is_bounded_and_the_archive_has_the_rest() {
    const COUNT: u64 = 2_000;
    let shop = Shop::start(|config| config.storage.in_memory = true).await;
    shop.import(&over(COUNT)).await;
    shop.import(&catalogue()).await;
    for path in ["/en/", "/zh/"] {
        let home = shop.read(path).await;
        let html = home.body.as_str().unwrap();
        assert!(html.len() < 64 << 10, "{} bytes", html.len());
        for part in
            ["/activities/1/", "/activities/2/", "/activities/1001/", "/activities/1012/", "/archive/"]
        {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        assert!(!html.contains("/activities/1013/"), "more than the latest that are over");
    }
    let (mut path, mut seen, mut pages) = ("/en/archive/".to_owned(), BTreeSet::new(), 0);
    loop {
        let page = shop.read(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page}");
        assert!(page.header("cache-control").contains("max-age") && page.header("etag").starts_with('"'));
        let html = page.body.as_str().unwrap();
        assert!(html.len() < 64 << 10, "{} bytes", html.len());
        seen.extend(html.split("<a href=\"/en/activities/").skip(1).filter_map(|rest| {
            let id: u64 = rest.split('/').next()?.parse().ok()?;
            Some(id)
        }));
        pages += 1;
        let Some((_, older)) = html.split_once("rel=\"next\" href=\"") else { break };
        path = older.split('"').next().unwrap().to_owned();
    }
    assert_eq!(seen, (1_001..=1_000 + COUNT).collect());
    assert_eq!(pages, COUNT.div_ceil(24));
    for (path, status) in [
        ("/archive", 200),
        ("/zh/archive/2", 200),
        ("/archive/1", 404),
        ("/archive/02", 404),
        ("/archive/99", 404),
    ] {
        assert_eq!(shop.read(path).await.status.as_u16(), status, "{path}");
    }

    // The list is read page by page, as all lists.
    let list = shop.read("/v1/activities").await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 20);
    let next = list["next"].as_str().unwrap();
    let list = shop.read(&format!("/v1/activities?limit=100&after={next}")).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 100);

    // An activity that ends moves to the archive by itself.
    shop.clock.advance(Duration::from_secs(7 * 3_600));
    let home = shop.read("/en/").await;
    let (current, past) = home.body.as_str().unwrap().split_once("Ended recently").unwrap();
    assert!(!current.contains("/activities/1/") && past.contains("/activities/1/"), "{current}");
    assert!(shop.read("/en/archive/").await.body.as_str().unwrap().contains("/activities/1/"));
    shop.close().await;
}
