//! The lifecycle of an activity, run through the operations listener, and what buyers see of it.

use std::time::Duration;

use flashsale_testkit::client::Answer;
use hyper::{Method, StatusCode};
use reference_server::{config::OperatorRole, rfc3339::Rfc3339};
use serde_json::{Value, json};

use crate::shop::{Shop, expect, token};

/// Calls the operations listener with an `If-Match` header.
pub(crate) async fn operate_if(
    shop: &Shop,
    role: OperatorRole,
    method: Method,
    path: &str,
    tag: &str,
    body: Option<&Value>,
) -> Answer {
    let authorization = format!("Bearer {}", token(role));
    let headers = [("authorization", authorization.as_str()), ("if-match", tag)];
    shop.operate_as(method, path, &headers, body).await
}

/// Checks that a call succeeded.
#[track_caller]
fn done(answer: Answer) -> Answer {
    assert!(answer.status.is_success(), "{answer}");
    answer
}

fn moment(shop: &Shop, seconds: i64) -> String {
    let (now, span) =
        (flashsale_core::domain::Clock::now(&*shop.clock), Duration::from_secs(seconds.unsigned_abs()));
    Rfc3339(if seconds < 0 { now.before(span) } else { now.after(span) }).to_string()
}

fn offer(sku: u64, units: u32, max: u32) -> Value {
    json!({
        "sku_id": sku.to_string(), "price": { "amount": 5900, "currency": "CNY" }, "units": units,
        "strategy": "pre_deduct", "hold_seconds": 60,
        "limits": [{ "subject": "user", "per": "offer", "max": max }],
    })
}

/// Creates draft 7 with an offer of SKU 11 and a window that has already started.
async fn draft(shop: &Shop) -> Answer {
    let body = json!({
        "id": "7", "name": "秒杀 & more", "starts_at": moment(shop, -60), "ends_at": moment(shop, 3600),
        "offers": [offer(11, 5, 2)],
    });
    done(shop.operate(OperatorRole::Creator, Method::POST, "/v1/activities", Some(&body)).await)
}

async fn step(shop: &Shop, role: OperatorRole, step: &str) -> Answer {
    shop.operate(role, Method::POST, &format!("/v1/activities/7/{step}"), None).await
}

/// Creates draft 7 and publishes it.
async fn published(shop: &Shop) {
    draft(shop).await;
    for (role, word) in [
        (OperatorRole::Creator, "submit"),
        (OperatorRole::Reviewer, "approve"),
        (OperatorRole::Operator, "publish"),
    ] {
        done(step(shop, role, word).await);
    }
}

/// Tries to order from activity 7. Returns the response to the order or to a failed ticket request.
async fn order_of(shop: &Shop, user: u64, quantity: u32) -> Answer {
    let buyer = shop.buyer(user).await;
    let ticket = buyer.ask_for_ticket(7, 11).await;
    if ticket.status != StatusCode::OK {
        return ticket;
    }
    shop.order_with(ticket.text("ticket"), &[], quantity).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_have_an_offset_and_contradict_nothing() {
    let shop = Shop::open().await;
    let create = async |name: &str, starts_at: &str, ends_at: &str| {
        let body = json!({ "id": "7", "name": name, "starts_at": starts_at, "ends_at": ends_at });
        shop.operate(OperatorRole::Creator, Method::POST, "/v1/activities", Some(&body)).await
    };
    let (start, end) = ("2099-11-11T20:00:00+08:00", "2099-11-11T22:00:00+08:00");
    for bad in
        ["2099-11-11T20:00:00", "2099-11-11T20:00:00+08:00[America/New_York]", "2099-11-11 20:00:00+08:00"]
    {
        let refused = create("Sale", bad, end).await;
        expect(&refused, 400, "invalid_request");
        assert_eq!(refused.body["field"], "starts_at", "{refused}");
        assert!(refused.text("detail").contains("a time such as 2026-11-11T20:00:00+08:00"), "{refused}");
    }
    for unseen in ["\u{200b}", "\u{202e}\u{2066}", "\u{3164}"] {
        let refused = create(unseen, start, end).await;
        expect(&refused, 400, "invalid_request");
        assert_eq!(refused.body["field"], "name", "{refused}");
        assert!(refused.text("detail").contains("has no visible character: \"\\u{"), "{refused}");
    }
    let made = done(create("Sale", start, "9999-12-31").await);
    assert_eq!(made.body["starts_at"], "2099-11-11T12:00:00.000Z");
    assert_eq!(made.body["ends_at"], "9999-12-31T23:59:59.999Z");
    let path = "/v1/activities/7";
    for (edit, shown) in [
        ("2100-01-01T00:00:00+08:00[Asia/Shanghai]", "2099-12-31T16:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ] {
        let edit = json!({ "ends_at": edit });
        let edited = done(shop.operate(OperatorRole::Creator, Method::PATCH, path, Some(&edit)).await);
        assert_eq!(edited.body["ends_at"], shown);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_goes_from_draft_to_publication_to_archive() {
    let shop = Shop::open().await;
    let made = draft(&shop).await;
    assert_eq!((made.status, made.header("location")), (StatusCode::CREATED, "/v1/activities/7"));
    assert_eq!((made.header("etag"), made.text("status")), ("\"1\"", "draft"));
    assert_eq!(made.body["creator"], "test creator");
    assert_eq!(draft(&shop).await.body, made.body, "repeating the request creates nothing new");
    assert_eq!(shop.read("/v1/activities/7").await.status, StatusCode::NOT_FOUND);

    // Every field of a draft can change.
    let edit = json!({ "name": "另一个名字", "description": "新", "ends_at": moment(&shop, 7200), "reason": "typo" });
    let edited =
        done(shop.operate(OperatorRole::Creator, Method::PATCH, "/v1/activities/7", Some(&edit)).await);
    assert_eq!((edited.header("etag"), edited.text("name")), ("\"2\"", "另一个名字"));
    done(
        shop.operate(OperatorRole::Creator, Method::POST, "/v1/activities/7/offers", Some(&offer(12, 1, 1)))
            .await,
    );
    let change = json!({ "units": 3, "price": { "amount": 1, "currency": "CNY" } });
    let path = "/v1/activities/7/offers/12";
    let changed = done(shop.operate(OperatorRole::Creator, Method::PATCH, path, Some(&change)).await);
    assert_eq!(changed.body["offers"][1]["units"], 3);
    assert_eq!(changed.body["offers"][1]["limits"][0]["max"], 1, "omitted fields stay unchanged");
    let left = done(shop.operate(OperatorRole::Creator, Method::DELETE, path, None).await);
    assert_eq!(left.body["offers"].as_array().unwrap().len(), 1);
    expect(&shop.operate(OperatorRole::Creator, Method::DELETE, path, None).await, 404, "not_found");

    // The lifecycle steps, including those that the current state forbids.
    expect(&step(&shop, OperatorRole::Reviewer, "approve").await, 409, "wrong_state");
    expect(&step(&shop, OperatorRole::Operator, "publish").await, 409, "wrong_state");
    done(step(&shop, OperatorRole::Creator, "submit").await);
    let late = shop.operate(OperatorRole::Operator, Method::PATCH, "/v1/activities/7", Some(&edit)).await;
    assert_eq!(late.status, StatusCode::OK, "a change that changes nothing succeeds: {late}");
    let other = json!({ "name": "x" });
    let late = shop.operate(OperatorRole::Operator, Method::PATCH, "/v1/activities/7", Some(&other)).await;
    expect(&late, 400, "invalid_request");
    assert_eq!(done(step(&shop, OperatorRole::Reviewer, "reject").await).text("status"), "draft");
    done(step(&shop, OperatorRole::Creator, "submit").await);
    let approved = done(step(&shop, OperatorRole::Reviewer, "approve").await);
    assert_eq!((approved.text("status"), approved.text("reviewer")), ("approved", "test reviewer"));
    let wrong = step(&shop, OperatorRole::Operator, "pause").await;
    expect(&wrong, 409, "wrong_state");
    assert_eq!(wrong.body["activity_status"], "approved");
    let live = done(step(&shop, OperatorRole::Operator, "publish").await);
    assert_eq!((live.text("status"), live.text("phase")), ("published", "live"));
    assert_eq!(shop.read("/v1/activities/7").await.body["name"], "另一个名字");
    assert_eq!(order_of(&shop, 1, 2).await.status, StatusCode::CREATED);

    expect(&step(&shop, OperatorRole::Operator, "archive").await, 409, "wrong_state");
    shop.clock.advance(Duration::from_secs(8_000));
    let archived = done(step(&shop, OperatorRole::Operator, "archive").await);
    assert_eq!(archived.text("status"), "archived");
    assert_eq!(shop.read("/v1/activities/7").await.status, StatusCode::NOT_FOUND);
    let kept = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/activities/7", None).await;
    assert_eq!(kept.text("status"), "archived");
    let orders = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/orders?user_id=1", None).await;
    assert_eq!(orders.body["items"][0]["activity_id"], "7", "its orders are kept");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_approve_their_own_work() {
    let both = "token-of-somebody-who-writes-and-reviews";
    let shop = Shop::with(|config| {
        config.operations.tokens.push(reference_server::config::OperationsToken {
            name: "both".to_owned(),
            roles: vec![OperatorRole::Creator, OperatorRole::Reviewer],
            token: reference_server::config::Secret::new(both.as_bytes()),
            token_file: None,
        });
    })
    .await;
    let as_both = async |method, path: &str, body: Option<Value>| {
        let authorization = format!("Bearer {both}");
        let headers = [("authorization", authorization.as_str())];
        shop.operate_as(method, path, &headers, body.as_ref()).await
    };
    let body = json!({
        "id": "7", "name": "mine", "starts_at": moment(&shop, -60), "ends_at": moment(&shop, 3600),
        "offers": [offer(11, 5, 2)],
    });
    assert_eq!(as_both(Method::POST, "/v1/activities", Some(body)).await.status, StatusCode::CREATED);
    assert_eq!(as_both(Method::POST, "/v1/activities/7/submit", None).await.status, StatusCode::OK);
    let own = as_both(Method::POST, "/v1/activities/7/approve", None).await;
    expect(&own, 403, "forbidden");
    assert!(own.text("detail").contains("by its creator"), "{own}");
    expect(&step(&shop, OperatorRole::Creator, "approve").await, 403, "forbidden");
    assert_eq!(
        shop.operate(OperatorRole::Auditor, Method::GET, "/v1/activities/7", None).await.text("status"),
        "submitted"
    );
    done(step(&shop, OperatorRole::Reviewer, "approve").await);
    expect(&as_both(Method::POST, "/v1/activities/7/approve", None).await, 409, "wrong_state");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_edits_to_the_same_version_succeeds() {
    let shop = Shop::open().await;
    draft(&shop).await;
    let patch = async |tag: &str, name: &str| {
        let body = json!({ "name": name });
        operate_if(&shop, OperatorRole::Creator, Method::PATCH, "/v1/activities/7", tag, Some(&body)).await
    };
    let read = shop.operate(OperatorRole::Creator, Method::GET, "/v1/activities/7", None).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(done(patch(&tag, "first").await).header("etag"), "\"2\"");
    expect(&patch(&tag, "second").await, 412, "version_conflict");
    expect(&patch("W/\"2\"", "weak").await, 412, "version_conflict");
    expect(&patch("\"2\", \"3\"", "two").await, 400, "invalid_request");
    let step =
        operate_if(&shop, OperatorRole::Creator, Method::POST, "/v1/activities/7/submit", &tag, None).await;
    expect(&step, 412, "version_conflict");
    let path = "/v1/activities/7/offers";
    let attach =
        operate_if(&shop, OperatorRole::Creator, Method::POST, path, &tag, Some(&offer(12, 1, 1))).await;
    expect(&attach, 412, "version_conflict");
    let detach =
        operate_if(&shop, OperatorRole::Creator, Method::DELETE, "/v1/activities/7/offers/11", &tag, None)
            .await;
    expect(&detach, 412, "version_conflict");
    assert_eq!(done(patch("*", "third").await).text("name"), "third");

    // Creating an existing product is a conflict; replacing it requires its version.
    let product = json!({ "id": "1", "name": "another" });
    let taken = shop.operate(OperatorRole::Creator, Method::POST, "/v1/products", Some(&product)).await;
    expect(&taken, 412, "version_conflict");
    let read = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/products/1", None).await;
    let replaced = operate_if(
        &shop,
        OperatorRole::Creator,
        Method::POST,
        "/v1/products",
        read.header("etag"),
        Some(&product),
    )
    .await;
    assert_eq!((replaced.status, replaced.header("etag")), (StatusCode::OK, "\"2\""));
    assert_eq!(shop.read("/v1/products/1").await.body["name"], "another", "buyers see it");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_changes_reach_buyers_at_once() {
    let shop = Shop::open().await;
    published(&shop).await;
    assert_eq!(order_of(&shop, 1, 2).await.status, StatusCode::CREATED);
    expect(&order_of(&shop, 1, 1).await, 409, "limit_reached");

    // New limits count earlier orders.
    let path = "/v1/activities/7/offers/11";
    let limits =
        json!({ "limits": [{ "subject": "user", "per": "offer", "max": 3 }], "reason": "more for all" });
    expect(&shop.operate(OperatorRole::Creator, Method::PATCH, path, Some(&limits)).await, 403, "forbidden");
    done(shop.operate(OperatorRole::Operator, Method::PATCH, path, Some(&limits)).await);
    assert_eq!(order_of(&shop, 1, 1).await.status, StatusCode::CREATED);
    expect(&order_of(&shop, 1, 1).await, 409, "limit_reached");
    assert_eq!(shop.read("/v1/activities/7").await.body["offers"][0]["limits"][0]["max"], 3);

    // Terms that the ledger was opened with cannot change.
    for fixed in [json!({ "units": 9 }), json!({ "price": { "amount": 1, "currency": "CNY" } })] {
        let refused = shop.operate(OperatorRole::Operator, Method::PATCH, path, Some(&fixed)).await;
        expect(&refused, 400, "invalid_request");
    }
    let attach = shop
        .operate(OperatorRole::Operator, Method::POST, "/v1/activities/7/offers", Some(&offer(12, 1, 1)))
        .await;
    expect(&attach, 400, "invalid_request");
    expect(&shop.operate(OperatorRole::Operator, Method::DELETE, path, None).await, 400, "invalid_request");

    // The window moves to a later start and back.
    let later = json!({ "starts_at": moment(&shop, 600) });
    let moved =
        done(shop.operate(OperatorRole::Operator, Method::PATCH, "/v1/activities/7", Some(&later)).await);
    assert_eq!(moved.text("phase"), "upcoming");
    let buyer = shop.buyer(2).await;
    assert_eq!(buyer.ask_for_ticket(7, 11).await.code(), "not_started");
    assert_eq!(shop.read("/v1/activities/7/status").await.body["phase"], "upcoming");
    assert_eq!(shop.read("/v1/activities/7").await.body["starts_at"], later["starts_at"]);
    let sooner = json!({ "starts_at": moment(&shop, -60) });
    done(shop.operate(OperatorRole::Operator, Method::PATCH, "/v1/activities/7", Some(&sooner)).await);
    assert_eq!(order_of(&shop, 2, 1).await.status, StatusCode::CREATED);

    // Unknown fields, null and out-of-range values are rejected by field name.
    for (body, field) in [
        (json!({ "creator": "me" }), "creator"),
        (json!({ "status": "approved" }), "status"),
        (json!({ "name": null }), "name"),
        (json!({ "starts_at": "tomorrow" }), "starts_at"),
        (json!({ "ends_at": "2001-01-01T00:00:00Z" }), "ends_at"),
    ] {
        let refused =
            shop.operate(OperatorRole::Operator, Method::PATCH, "/v1/activities/7", Some(&body)).await;
        expect(&refused, 400, "invalid_request");
        assert_eq!(refused.text("field"), field, "{refused}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_money_cannot_hold_is_refused_when_the_offer_is_made() {
    let shop = Shop::open().await;
    let most = json!({ "amount": 1_000_000_000_000_000_u64, "currency": "CNY" });
    draft(&shop).await;
    let creator = async |method, path: &str, body: Value| {
        shop.operate(OperatorRole::Creator, method, path, Some(&body)).await
    };
    let refused = |answer: Answer| {
        expect(&answer, 400, "invalid_request");
        assert_eq!(answer.text("field"), "price", "{answer}");
        assert!(answer.body["problems"][0].as_str().unwrap().contains("an order of 2 units"), "{answer}");
    };
    let attached = json!({ "sku_id": "12", "price": most, "units": 2, "strategy": "order_time" });
    refused(creator(Method::POST, "/v1/activities/7/offers", attached).await);
    refused(creator(Method::PATCH, "/v1/activities/7/offers/11", json!({ "price": most })).await);
    let mut document = crate::shop::catalogue();
    document["activities"][2]["offers"][0]["price"] = most.clone();
    document["activities"][2]["offers"][0]["units"] = json!(2);
    let import = shop.operate(OperatorRole::Operator, Method::POST, "/v1/import", Some(&document)).await;
    expect(&import, 400, "invalid_request");
    let problem = import.body["problems"][0].as_str().unwrap();
    assert!(problem.contains("activities[2].offers[0].price: an order of 2 units"), "{import}");

    // One unit can be sold. More that are added later can be ordered one by one.
    done(creator(Method::PATCH, "/v1/activities/7/offers/11", json!({ "price": most, "units": 1 })).await);
    for (role, word) in [
        (OperatorRole::Creator, "submit"),
        (OperatorRole::Reviewer, "approve"),
        (OperatorRole::Operator, "publish"),
    ] {
        done(step(&shop, role, word).await);
    }
    let more = json!({ "adjustment_id": "more", "delta": 1, "reason": "test" });
    let path = "/v1/activities/7/offers/11/adjustments";
    done(shop.operate(OperatorRole::Operator, Method::POST, path, Some(&more)).await);
    let both = order_of(&shop, 1, 2).await;
    expect(&both, 400, "invalid_request");
    assert_eq!(both.text("field"), "quantity");
    let one = order_of(&shop, 2, 1).await;
    assert_eq!((one.status, &one.body["amount"]), (StatusCode::CREATED, &most));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_that_are_no_money_are_refused() {
    let shop = Shop::open().await;
    for code in ["XTS", "XAU", "XXX", "XDR", "RMB", "cny"] {
        let price = json!({ "amount": 100, "currency": code });
        let sku = json!({ "product_id": "1", "name": "a bar", "list_price": price });
        let refused = shop.operate(OperatorRole::Creator, Method::POST, "/v1/skus", Some(&sku)).await;
        expect(&refused, 400, "invalid_request");
        assert_eq!(refused.text("field"), "list_price.currency", "{refused}");
        assert!(refused.text("detail").contains(&format!("{code:?} is not ")), "{refused}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_can_be_paused_resumed_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&crate::shop::catalogue()).await;
    published(&shop).await;
    let buyer = shop.buyer(1).await;
    let early = buyer.ask_for_ticket(7, 11).await.text("ticket").to_owned();
    let won = shop.order_with(&early, &[], 1).await;
    assert_eq!(won.status, StatusCode::CREATED);

    for _ in 0..2 {
        assert_eq!(done(step(&shop, OperatorRole::Operator, "pause").await).text("phase"), "paused");
    }
    expect(&order_of(&shop, 2, 1).await, 409, "paused");
    assert_eq!(shop.order_with(&early, &[], 1).await.status, StatusCode::OK, "a retry returns the order");
    shop.clock.advance(Duration::from_millis(150));
    assert_eq!(shop.read("/v1/activities/7/status").await.body["phase"], "paused");
    // Neither an import nor a restart resumes it.
    shop.import(&crate::shop::catalogue()).await;
    shop.close().await;
    let shop = Shop::on(directory.path()).await;
    expect(&order_of(&shop, 2, 1).await, 409, "paused");

    assert_eq!(done(step(&shop, OperatorRole::Operator, "resume").await).text("phase"), "live");
    assert_eq!(order_of(&shop, 2, 1).await.status, StatusCode::CREATED);
    for _ in 0..2 {
        assert_eq!(done(step(&shop, OperatorRole::Operator, "end").await).text("phase"), "ended");
    }
    expect(&order_of(&shop, 3, 1).await, 409, "ended");
    expect(&step(&shop, OperatorRole::Operator, "resume").await, 409, "wrong_state");
    expect(&step(&shop, OperatorRole::Operator, "pause").await, 409, "wrong_state");
    let order = won.text("order_id");
    assert!(!shop.buyer(1).await.pay(order).await.is_empty(), "existing orders can still be paid");
    assert_eq!(done(step(&shop, OperatorRole::Operator, "archive").await).text("status"), "archived");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kill_switch_stops_every_sale_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&crate::shop::catalogue()).await;
    published(&shop).await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    let won = shop.order_with(&ticket, &[], 1).await;
    let turn = async |shop: &Shop, on: bool| {
        let body = json!({ "on": on, "reason": "price was wrong 价格错误" });
        shop.operate(OperatorRole::Operator, Method::PUT, "/v1/kill-switch", Some(&body)).await
    };
    let version = shop.read("/v1/activities/1/status").await.body["version"].as_u64().unwrap();
    let on = done(turn(&shop, true).await);
    assert_eq!((on.body["on"].as_bool(), on.text("actor")), (Some(true), "test operator"));
    // Every activity is stopped, despite available units and fresh tickets.
    expect(&order_of(&shop, 2, 1).await, 409, "paused");
    expect(&shop.buyer(2).await.order(11, 1).await, 409, "paused");
    expect(&shop.buyer(2).await.order(12, 1).await, 409, "paused");
    let again = shop.order_with(&ticket, &[], 1).await;
    assert_eq!((again.status, again.text("order_id")), (StatusCode::OK, won.text("order_id")));
    shop.clock.advance(Duration::from_millis(150));
    let status = shop.read("/v1/activities/1/status").await;
    assert_eq!(status.body["phase"], "paused");
    assert!(status.body["version"].as_u64().unwrap() > version, "{status}");
    assert!(!shop.buyer(1).await.pay(won.text("order_id")).await.is_empty(), "orders can be paid");
    shop.close().await;

    let shop = Shop::on(directory.path()).await;
    let kept = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/kill-switch", None).await;
    assert_eq!((kept.body["on"].as_bool(), kept.text("reason")), (Some(true), "price was wrong 价格错误"));
    expect(&order_of(&shop, 2, 1).await, 409, "paused");
    assert_eq!(done(turn(&shop, false).await).body["on"], false);
    assert_eq!(order_of(&shop, 2, 1).await.status, StatusCode::CREATED);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn support_can_cancel_and_refund_orders() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let act = async |order: &str, verb: &str, body: Option<Value>| {
        let path = format!("/v1/orders/{order}/{verb}");
        shop.operate(OperatorRole::Operator, Method::POST, &path, body.as_ref()).await
    };
    // Cancelling closes the open payment first; cancelling again changes nothing.
    let open = buyer.buy(11, 2).await;
    buyer.pay(&open).await;
    for _ in 0..2 {
        let cancelled = done(act(&open, "cancel", Some(json!({ "reason": "asked by phone" }))).await);
        assert_eq!((cancelled.text("status"), cancelled.text("user_id")), ("cancelled", "1"));
    }
    assert_eq!(shop.stock(11).await["available"], 100);

    let paid = buyer.buy(11, 3).await;
    let payment = buyer.pay(&paid).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    let why = json!({ "units_returned": true, "reason": "damaged in transit" });
    expect(&act(&open, "refund", Some(why.clone())).await, 409, "wrong_state");
    let wrong = act(&paid, "cancel", None).await;
    expect(&wrong, 409, "wrong_state");
    assert_eq!(wrong.body["order_status"], "paid");
    for body in [json!({ "units_returned": true }), json!({ "reason": "x" })] {
        expect(&act(&paid, "refund", Some(body)).await, 400, "invalid_request");
    }
    for _ in 0..2 {
        let refunded = done(act(&paid, "refund", Some(why.clone())).await);
        assert_eq!(refunded.text("status"), "paid", "a refund does not change the order status");
        assert!(refunded.body["refund"]["status"].is_string(), "{refunded}");
    }
    let stock = shop.stock(11).await;
    assert_eq!((&stock["available"], &stock["sold"]), (&json!(100), &json!(0)));
    expect(&act("4242", "cancel", None).await, 404, "not_found");
    for role in [OperatorRole::Creator, OperatorRole::Reviewer, OperatorRole::Auditor] {
        let path = format!("/v1/orders/{paid}/cancel");
        expect(&shop.operate(role, Method::POST, &path, None).await, 403, "forbidden");
    }
    shop.close().await;
}
