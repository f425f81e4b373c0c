//! Dead letters wait for an operator, who replays or discards them.

use hyper::{Method, StatusCode};
use reference_server::config::OperatorRole;
use serde_json::{Value, json};

use crate::{
    metrics::scrape,
    shop::{Shop, bare_id, expect},
};

/// Starts a shop that attempts each job once, with two paid orders whose refunds have failed.
async fn with_two() -> (Shop, [String; 2]) {
    let shop = Shop::with(|config| config.queue.attempts = 1).await;
    let buyer = shop.buyer(1).await;
    let orders = [buyer.buy(11, 1).await, buyer.buy(11, 1).await];
    for order in &orders {
        let payment = buyer.pay(order).await;
        let capture = format!("/sandbox/payments/{payment}/capture");
        assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    }
    shop.app.sandbox.as_ref().unwrap().fail(true);
    for order in &orders {
        let why = json!({ "units_returned": true, "reason": "broken" });
        let path = format!("/v1/orders/{order}/refund");
        assert_eq!(
            shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&why)).await.status,
            StatusCode::OK
        );
    }
    // The background upkeep of the server may process them first.
    while letters(&shop).await.len() < 2 {
        shop.app.maintenance.settle_once().await.unwrap();
    }
    shop.app.sandbox.as_ref().unwrap().fail(false);
    (shop, orders)
}

async fn letters(shop: &Shop) -> Vec<Value> {
    let answer = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/dead-letters", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    answer.body["items"].as_array().unwrap().clone()
}

fn of(letters: &[Value], order: &str) -> String {
    let content = |letter: &&Value| letter["content"]["order"]["id"] == bare_id(order);
    letters.iter().find(content).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_refund_can_be_replayed_or_discarded() {
    let (shop, [first, second]) = with_two().await;
    let buyer = shop.buyer(1).await;
    let seen = letters(&shop).await;
    assert_eq!((seen.len(), &seen[0]["topic"], &seen[0]["attempts"]), (2, &json!("refunds"), &json!(1)));
    assert!(seen[0]["error"].as_str().unwrap().contains("provider"), "{}", seen[0]);
    assert_eq!(buyer.read(&first).await["refund"]["status"], "due", "the money is still owed");
    let numbers = scrape(&shop).await;
    assert_eq!(numbers["flashsale_jobs{topic=\"refunds\",state=\"dead\"}"], 2.0);
    assert_eq!(numbers["flashsale_job_attempts_total{topic=\"refunds\",outcome=\"parked\"}"], 2.0);

    let page = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/dead-letters?limit=1", None).await;
    let next = format!("/v1/dead-letters?limit=1&after={}", page.text("next"));
    let page = shop.operate(OperatorRole::Auditor, Method::GET, &next, None).await;
    assert_eq!((&page.body["items"][0], &page.body["next"]), (&seen[1], &Value::Null));

    let [replay, discard] = [(&first, "replay"), (&second, "discard")]
        .map(|(order, verb)| (format!("/v1/dead-letters/{}", of(&seen, order)), verb));
    for (letter, verb) in [&replay, &discard] {
        let path = format!("{letter}/{verb}");
        for other in [OperatorRole::Creator, OperatorRole::Reviewer, OperatorRole::Auditor] {
            expect(&shop.operate(other, Method::POST, &path, None).await, 403, "forbidden");
        }
        let why = json!({ "reason": "the bank is open again" });
        let ended = shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&why)).await;
        assert_eq!(ended.status, StatusCode::OK, "{ended}");
        expect(&shop.operate(OperatorRole::Operator, Method::POST, &path, None).await, 404, "not_found");
        expect(&shop.operate(OperatorRole::Operator, Method::GET, letter, None).await, 404, "not_found");
    }
    shop.app.maintenance.settle_once().await.unwrap();
    while buyer.read(&first).await["refund"]["status"] == "due" {
        shop.app.maintenance.settle_once().await.unwrap();
    }
    assert_eq!(buyer.read(&first).await["refund"]["status"], "done");
    assert_eq!(buyer.read(&second).await["refund"]["status"], "failed");
    assert_eq!(letters(&shop).await, Vec::<Value>::new());

    let rows = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/audit?limit=100", None).await;
    for action in ["dead_letter.replayed", "dead_letter.discarded"] {
        let rows = rows.body["items"].as_array().unwrap().iter();
        let rows: Vec<_> = rows.filter(|row| row["action"] == action).collect();
        assert_eq!(rows.len(), 1, "{action}");
        assert_eq!(
            (&rows[0]["actor"], &rows[0]["reason"]),
            (&json!("test operator"), &json!("the bank is open again"))
        );
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_dead_letters_are_not_found() {
    let shop = Shop::open().await;
    for id in ["0", "7", "18446744073709551615", "99999999999999999999", "x", "-1"] {
        let path = format!("/v1/dead-letters/{id}");
        expect(&shop.operate(OperatorRole::Operator, Method::GET, &path, None).await, 404, "not_found");
        for verb in ["replay", "discard", "forget"] {
            let path = format!("{path}/{verb}");
            expect(&shop.operate(OperatorRole::Operator, Method::POST, &path, None).await, 404, "not_found");
        }
    }
    shop.close().await;
}
