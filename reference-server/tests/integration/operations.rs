//! Operator calls: stock, adjustments, imports, backups, and the roles that they require.

use std::time::Duration;

use flashsale_core::ledger::LedgerCalls as _;
use flashsale_testkit::client::Client;
use hyper::{Method, StatusCode};
use reference_server::{backup, config::OperatorRole, monitoring::reconciliation};
use serde_json::json;

use crate::shop::{Shop, bare_id, catalogue, expect};

const ADJUSTMENTS: &str = "/v1/activities/1/offers/11/adjustments";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_require_a_token_with_the_right_role() {
    let shop = Shop::open().await;
    let mut client = Client::new(shop.operations);
    let stock = "/v1/activities/1/offers/11/stock";
    for headers in [
        &[][..],
        &[("authorization", "Bearer nonsense")],
        &[("authorization", "token-of-the-operator-of-the-tests")],
    ] {
        expect(&client.request(Method::GET, stock, headers, None).await.unwrap(), 401, "unauthorized");
    }
    let session = shop.buyer(1).await.session;
    let buyer = client.request(Method::GET, stock, &[("authorization", &session)], None).await.unwrap();
    expect(&buyer, 401, "unauthorized");
    let adjustment = json!({ "adjustment_id": "a", "delta": 1, "reason": "test" });
    for (path, body) in [
        (ADJUSTMENTS, &adjustment),
        ("/v1/import", &catalogue()),
        ("/v1/backup", &json!({ "directory": "/nowhere" })),
    ] {
        for role in [OperatorRole::Creator, OperatorRole::Reviewer, OperatorRole::Auditor] {
            expect(&shop.operate(role, Method::POST, path, Some(body)).await, 403, "forbidden");
        }
    }
    for role in OperatorRole::ALL {
        assert_eq!(shop.operate(role, Method::GET, stock, None).await.status, StatusCode::OK);
    }
    for role in [OperatorRole::Creator, OperatorRole::Reviewer] {
        let refused = shop.operate(role, Method::GET, "/v1/reconciliation", None).await;
        expect(&refused, 403, "forbidden");
        assert!(refused.text("detail").contains("auditor or operator"), "{refused}");
    }
    // Operations calls do not exist on the public listener, nor public calls on this one.
    for path in [stock, "/healthz", "/readyz", "/v1/reconciliation"] {
        expect(&shop.read(path).await, 404, "not_found");
    }
    let sign_in = shop.operate(OperatorRole::Operator, Method::POST, "/v1/sessions", Some(&json!({}))).await;
    expect(&sign_in, 404, "not_found");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adjustments_are_deltas_that_apply_once() {
    let shop = Shop::open().await;
    let adjust = async |id: &str, delta: i64| {
        let body = json!({ "adjustment_id": id, "delta": delta, "reason": "found in the cellar" });
        shop.operate(OperatorRole::Operator, Method::POST, ADJUSTMENTS, Some(&body)).await
    };
    shop.buyer(1).await.buy(11, 5).await;
    for _ in 0..2 {
        let more = adjust("more", 10).await;
        assert_eq!(more.status, StatusCode::OK, "{more}");
        assert_eq!((&more.body["adjusted"], &more.body["available"]), (&json!(10), &json!(105)), "{more}");
    }
    expect(&adjust("more", 11).await, 422, "key_reused");
    let refused = adjust("all", -106).await;
    expect(&refused, 409, "insufficient_available");
    assert_eq!(refused.body["available"], 105);
    assert_eq!(adjust("all", -105).await.body["available"], 0);
    let sold_out = shop.buyer(2).await.order(11, 1).await;
    expect(&sold_out, 409, "sold_out");
    assert_eq!(adjust("again", 1).await.status, StatusCode::OK);
    // Added units can be sold, even if a view still says sold out.
    let buyer = shop.buyer(3).await;
    let ticket = buyer.ticket(11).await;
    while shop.order_with(&ticket, &[], 1).await.status != StatusCode::CREATED {
        shop.clock.advance(Duration::from_millis(1));
    }
    for (body, field) in [
        (json!({ "adjustment_id": "", "delta": 1, "reason": "x" }), "adjustment_id"),
        (json!({ "adjustment_id": "zero", "delta": 0, "reason": "x" }), "delta"),
    ] {
        let answer = shop.operate(OperatorRole::Operator, Method::POST, ADJUSTMENTS, Some(&body)).await;
        expect(&answer, 400, "invalid_request");
        assert_eq!(answer.text("field"), field);
    }
    let body = json!({ "adjustment_id": "x", "delta": 1, "reason": "x" });
    // An unknown offer, a draft activity, and an unknown activity.
    for (activity, sku) in [(1, 99), (3, 11), (99, 11)] {
        let path = format!("/v1/activities/{activity}/offers/{sku}/adjustments");
        expect(
            &shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&body)).await,
            404,
            "not_found",
        );
    }
    let stock = shop.stock(11).await;
    let members: Vec<_> = stock.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["adjusted", "available", "epoch", "held", "sold", "units"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adjustment_can_take_units_from_all_buckets() {
    let shop = Shop::open().await;
    let path = "/v1/activities/2/offers/11/adjustments";
    let body = json!({ "adjustment_id": "back to the supplier", "delta": -8, "reason": "test" });
    let taken = shop.operate(OperatorRole::Operator, Method::POST, path, Some(&body)).await;
    assert_eq!((taken.status, &taken.body["available"]), (StatusCode::OK, &json!(1)), "{taken}");
    let body = json!({ "adjustment_id": "more than there is", "delta": -2, "reason": "test" });
    let refused = shop.operate(OperatorRole::Operator, Method::POST, path, Some(&body)).await;
    expect(&refused, 409, "insufficient_available");
    assert_eq!(refused.body["available"], 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_all_or_nothing() {
    let shop = Shop::open().await;
    let same = shop.import(&catalogue()).await;
    assert_eq!(same.body["activities"], json!({ "created": 0, "changed": 0, "unchanged": 3 }));

    let mut wrong = catalogue();
    wrong["activities"][0]["offers"][0]["units"] = json!(7);
    wrong["activities"][0]["name"] = json!("never seen");
    let refused = shop.operate(OperatorRole::Operator, Method::POST, "/v1/import", Some(&wrong)).await;
    expect(&refused, 400, "invalid_request");
    assert!(refused.body["problems"].to_string().contains("units"), "{refused}");
    assert_eq!(shop.read("/v1/activities/1").await.body["name"], "双十一 <b>");

    let files = json!({ "files": [{ "name": "skus.csv", "content": "id,product_id,name,price_minor,currency\n-5,1,x,1,CNY\n" }] });
    let refused = shop.operate(OperatorRole::Operator, Method::POST, "/v1/import", Some(&files)).await;
    expect(&refused, 400, "invalid_request");
    assert!(refused.body["problems"][0].as_str().unwrap().starts_with("skus.csv:2: id:"), "{refused}");

    // A changed window and limit reach the ledger of a running sale.
    let mut changed = catalogue();
    changed["activities"][0]["offers"][0]["limits"][0]["max"] = json!(1);
    let later = json!("2099-01-01T00:00:00Z");
    changed["activities"][1]["starts_at"] = later.clone();
    changed["activities"][1]["ends_at"] = json!("2099-01-02T00:00:00Z");
    shop.import(&changed).await;
    let limited = shop.buyer(1).await.order(11, 2).await;
    expect(&limited, 409, "limit_reached");
    assert_eq!(limited.body["rule"]["max"], 1);
    assert_eq!(shop.read("/v1/activities/2").await.body["starts_at"], "2099-01-01T00:00:00.000Z");
    let terms = shop.app.sales.ledger().terms(2_u64.try_into().unwrap()).await.unwrap().unwrap();
    assert_eq!(
        reference_server::rfc3339::Rfc3339(terms.window().starts_at()).to_string(),
        "2099-01-01T00:00:00.000Z"
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn support_can_read_orders_and_reconciliation_finds_no_differences() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 2).await;
    let list = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/orders?user_id=1", None).await;
    assert_eq!(
        (&list.body["items"][0]["order_id"], &list.body["items"][0]["user_id"]),
        (&json!(order), &json!("1"))
    );
    let one = shop.operate(OperatorRole::Auditor, Method::GET, &format!("/v1/orders/{order}"), None).await;
    assert_eq!(one.body["user_id"], "1");
    assert!(one.body["placed_at"].is_string(), "{one}");
    expect(
        &shop.operate(OperatorRole::Auditor, Method::GET, "/v1/orders", None).await,
        400,
        "invalid_request",
    );
    for unknown in ["4242", "1-4242", "99-4242", "x"] {
        let path = format!("/v1/orders/{unknown}");
        expect(&shop.operate(OperatorRole::Auditor, Method::GET, &path, None).await, 404, "not_found");
    }
    let bare = format!("/v1/orders/{}", bare_id(&order));
    assert_eq!(shop.operate(OperatorRole::Auditor, Method::GET, &bare, None).await.body, one.body);

    let found = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/reconciliation", None).await;
    assert_eq!(found.body["items"], json!([]), "{found}");
    let held: Vec<_> =
        found.body["offers"].as_array().unwrap().iter().filter(|offer| offer["held"] == 2).collect();
    assert_eq!(held.len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciliation_finds_a_difference_between_ledger_and_catalogue() {
    let shop = Shop::open().await;
    let window = flashsale_core::domain::Window::new(
        flashsale_core::domain::Timestamp::from_millis(1),
        flashsale_core::domain::Timestamp::from_millis(2),
    );
    let by =
        flashsale_core::domain::Attribution { actor: "x".parse().unwrap(), reason: "x".parse().unwrap() };
    let change = flashsale_core::ledger::Change::Window(window.unwrap());
    let ledger = shop.app.sales.ledger();
    ledger.amend(1_u64.try_into().unwrap(), flashsale_core::ledger::ChangeId(9), change, by).await.unwrap();
    let found = reconciliation::inspect(
        &**shop.app.sales.ledger(),
        &*shop.app.inspector,
        &*shop.app.catalogue,
        &*shop.app.queue,
    )
    .await
    .unwrap();
    assert_eq!(found.items.len(), 1, "{found:?}");
    assert_eq!(found.items[0].invariant, "catalogue");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_ready_while_its_views_are_fresh() {
    let shop = Shop::open().await;
    let mut client = Client::new(shop.operations);
    let alive = client.request(Method::GET, "/healthz", &[], None).await.unwrap();
    assert_eq!(alive.status, StatusCode::OK);
    let ready = client.request(Method::GET, "/readyz", &[], None).await.unwrap();
    assert_eq!((ready.status, &ready.body), (StatusCode::OK, &json!({ "ready": true, "reasons": [] })));
    shop.app.close_stores.call().await.unwrap();
    let failed = client.request(Method::GET, "/healthz", &[], None).await.unwrap();
    expect(&failed, 503, "unavailable");
    assert!(failed.body["reasons"].to_string().contains("ledger: "), "{failed}");
    // The views of a stopped ledger are not refreshed and become stale.
    shop.clock.advance(Duration::from_secs(2));
    let not_ready = client.request(Method::GET, "/readyz", &[], None).await.unwrap();
    expect(&not_ready, 503, "not_ready");
    assert_eq!(not_ready.header("retry-after"), "1");
    let reasons = not_ready.body["reasons"].to_string();
    assert!(reasons.contains("ledger: ") && reasons.contains("activity 1: "), "{not_ready}");
    let buyer = shop.buyer(1).await;
    expect(&buyer.order(11, 1).await, 503, "unavailable");
    expect(&shop.read("/v1/activities/1/status").await, 503, "not_ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_listener_answers_probes_at_its_health_path_only() {
    let probe = async |shop: &Shop, path| {
        Client::new(shop.public).request(Method::GET, path, &[], None).await.unwrap()
    };
    let shop = Shop::open().await;
    assert_eq!(probe(&shop, "/healthz").await.status, StatusCode::NOT_FOUND);
    shop.close().await;

    let shop = Shop::with(|config| config.http.health_path = Some("/healthz".to_owned())).await;
    let alive = probe(&shop, "/healthz").await;
    assert_eq!((alive.status, &alive.body), (StatusCode::OK, &json!("alive\n")), "{alive}");
    let other_method = Client::new(shop.public).request(Method::POST, "/healthz", &[], None).await.unwrap();
    expect(&other_method, 405, "method_not_allowed");
    shop.app.close_stores.call().await.unwrap();
    let failed = probe(&shop, "/healthz").await;
    expect(&failed, 503, "unavailable");
    assert!(failed.body.get("reasons").is_none(), "strangers see no internals: {failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_shop_can_be_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (data, copy, restored) =
        (directory.path().join("data"), directory.path().join("copy"), directory.path().join("restored"));
    let shop = Shop::on(&data).await;
    shop.import(&catalogue()).await;
    let (session, order) = {
        let buyer = shop.buyer(1).await;
        (buyer.session.clone(), buyer.buy(11, 1).await)
    };
    let body = json!({ "directory": copy });
    let made = shop.operate(OperatorRole::Operator, Method::POST, "/v1/backup", Some(&body)).await;
    assert_eq!(made.status, StatusCode::OK, "{made}");
    let again = shop.operate(OperatorRole::Operator, Method::POST, "/v1/backup", Some(&body)).await;
    expect(&again, 400, "invalid_request");
    assert_eq!(again.text("field"), "directory");
    shop.buyer(2).await.buy(11, 1).await;
    shop.close().await;

    backup::restore(&copy, &restored).unwrap();
    assert!(backup::restore(&copy, &restored).is_err(), "a restore must not overwrite data");
    assert!(backup::restore(directory.path(), &directory.path().join("other")).is_err());
    let shop = Shop::on(&restored).await;
    let path = format!("/v1/orders/{order}");
    let seen = shop.call(Method::GET, &path, &[("authorization", &session)], None).await;
    assert_eq!(
        (seen.status, seen.text("status")),
        (StatusCode::OK, "pending"),
        "the session must still be valid: {seen}"
    );
    assert_eq!(shop.stock(11).await["available"], 99);
    shop.close().await;
}
