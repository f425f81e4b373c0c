//! Mass assignment: a body with an undocumented field is rejected as a whole.
//!
//! Calls, bodies and known fields come from the OpenAPI documents, so new calls are covered too.

use std::time::Duration;

use flashsale_core::queue::{NewJob, Settlement, Verdict};
use flashsale_testkit::client::Answer;
use hyper::Method;
use reference_server::config::OperatorRole;
use serde_json::{Value, json};

use crate::{
    contract::{Contract, OPERATIONS, PUBLIC},
    shop::{Shop, expect, token},
};

/// Fields that an attacker might try to set. Each object is tested with those that it lacks.
const UNKNOWN: [&str; 12] = [
    "id", "status", "creator", "reviewer", "user_id", "amount", "price", "version", "paid_at", "sold",
    "actor", "roles",
];

/// Calls whose bodies are not rejected in this way.
const EXCEPTED: [(&str, &str); 2] = [
    // The contract lets providers add fields to their reports.
    ("post", "/v1/payments/callbacks/{provider}"),
    // The response lists all problems instead of naming the first field; tested below.
    ("post", "/v1/import"),
];

/// A demo offer without limits.
const OFFER: &str = "/v1/activities/101/offers/104001";

/// A documented call, and where this test sends it.
struct Call {
    contract: &'static Contract,
    method: Method,
    path: String,
    authorization: String,
    schema: &'static Value,
    body: Value,
}

/// An object in a body.
struct JsonPath {
    /// The JSON pointer of the object.
    pointer: String,
    /// The prefix of its fields in problem documents.
    prefix: String,
    known: Vec<&'static str>,
}

impl Call {
    async fn send(&self, shop: &Shop, body: &Value) -> Answer {
        let headers = [("authorization", self.authorization.as_str())];
        if self.contract.listener == PUBLIC.listener {
            shop.call(self.method.clone(), &self.path, &headers, Some(body)).await
        } else {
            shop.operate_as(self.method.clone(), &self.path, &headers, Some(body)).await
        }
    }

    /// Returns every object in the body.
    fn objects(&self) -> Vec<JsonPath> {
        let mut found = Vec::new();
        self.walk(self.schema, &self.body, (String::new(), String::new()), &mut found);
        found
    }

    fn walk(&self, schema: &'static Value, value: &Value, at: (String, String), found: &mut Vec<JsonPath>) {
        let (pointer, place) = at;
        let schema = self.contract.resolve(schema);
        if let Some(items) = schema.get("items") {
            if self.has_objects(items) {
                let first =
                    value.get(0).unwrap_or_else(|| panic!("the example of {} has no {place}", self.path));
                self.walk(items, first, (pointer + "/0", place + "[0]"), found);
            }
        } else if let Some(known) = schema.get("properties").and_then(Value::as_object) {
            let prefix = if place.is_empty() { place } else { place + "." };
            for (name, part) in known.iter().filter(|(_, part)| self.has_objects(part)) {
                let value = value.get(name);
                let value =
                    value.unwrap_or_else(|| panic!("the example of {} has no {prefix}{name}", self.path));
                self.walk(part, value, (format!("{pointer}/{name}"), format!("{prefix}{name}")), found);
            }
            found.push(JsonPath { pointer, prefix, known: known.keys().map(String::as_str).collect() });
        }
    }

    fn has_objects(&self, schema: &'static Value) -> bool {
        let schema = self.contract.resolve(schema);
        schema.get("properties").is_some() || schema.get("items").is_some_and(|items| self.has_objects(items))
    }
}

/// Imports the demo catalogue.
async fn import_demo(shop: &Shop) {
    let file = |name: &str, content: &str| json!({ "name": name, "content": content });
    let files = [
        file("products.csv", include_str!("../../../examples/data/products.csv")),
        file("skus.csv", include_str!("../../../examples/data/skus.csv")),
        file("activities.csv", include_str!("../../../examples/data/activities.csv")),
        file("offers.csv", include_str!("../../../examples/data/offers.csv")),
    ];
    shop.import(&json!({ "files": files })).await;
}

/// Returns every call with a body. Each call gets its own resources.
async fn calls(shop: &Shop, contract: &'static Contract) -> Vec<Call> {
    let mut calls = Vec::new();
    for (method, template, call) in contract.calls() {
        let Some(schema) = call.pointer("/requestBody/content/application~1json/schema") else {
            assert!(call.get("requestBody").is_none(), "{method} {template} takes a body that is not JSON");
            continue;
        };
        if EXCEPTED.contains(&(method, template)) {
            continue;
        }
        let body = contract.resolve(schema)["examples"].get(0).cloned();
        let body = body.unwrap_or_else(|| panic!("{method} {template}: the body has no example"));
        let user = 1000 + u64::try_from(calls.len()).unwrap();
        let (path, authorization) = if contract.listener == PUBLIC.listener {
            of_buyer(shop, user, template).await
        } else {
            of_operator(shop, user, template).await
        };
        let method = method.to_uppercase().parse().unwrap();
        calls.push(Call { contract, method, path, authorization, schema, body });
    }
    calls
}

async fn of_buyer(shop: &Shop, user: u64, template: &str) -> (String, String) {
    let buyer = shop.buyer(user).await;
    let path = match template {
        "/v1/sessions" => template.to_owned(),
        "/v1/activities/{id}/offers/{sku_id}/challenge" => format!("{OFFER}/challenge"),
        "/v1/activities/{id}/offers/{sku_id}/ticket" => format!("{OFFER}/ticket"),
        "/v1/orders/{id}" => {
            format!("/v1/orders/{}", buyer.ask_for_ticket(101, 104_001).await.text("ticket"))
        }
        "/v1/orders/{id}/cancel" => format!("/v1/orders/{}/cancel", order(shop, user).await),
        "/v1/orders/{id}/payment" => format!("/v1/orders/{}/payment", order(shop, user).await),
        _ => panic!("{template} takes a body: add a path for it to this test"),
    };
    (path, buyer.session)
}

async fn of_operator(shop: &Shop, user: u64, template: &str) -> (String, String) {
    let mut role = OperatorRole::Creator;
    let path = match template {
        "/v1/products" | "/v1/skus" | "/v1/activities" => template.to_owned(),
        "/v1/activities/{id}"
        | "/v1/activities/{id}/offers"
        | "/v1/activities/{id}/offers/{sku_id}"
        | "/v1/activities/{id}/{verb}" => {
            let template = template.replace("{sku_id}", "100101").replace("{verb}", "submit");
            template.replace("{id}", &draft(shop).await)
        }
        _ => {
            role = OperatorRole::Operator;
            match template {
                "/v1/kill-switch" | "/v1/backup" | "/v1/clock/step" => template.to_owned(),
                "/v1/activities/{id}/offers/{sku_id}/adjustments" => format!("{OFFER}/adjustments"),
                "/v1/orders/{id}/cancel" => format!("/v1/orders/{}/cancel", order(shop, user).await),
                "/v1/orders/{id}/refund" => {
                    let order = order(shop, user).await;
                    let payment = shop.buyer(user).await.pay(&order).await;
                    let capture = format!("/sandbox/payments/{payment}/capture");
                    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, 200);
                    format!("/v1/orders/{order}/refund")
                }
                "/v1/dead-letters/{id}/replay" | "/v1/dead-letters/{id}/discard" => {
                    template.replace("{id}", &dead_letter(shop, user).await)
                }
                "/v1/callbacks/{id}/replay" | "/v1/callbacks/{id}/discard" => {
                    template.replace("{id}", &parked_callback(shop, user).await)
                }
                "/v1/users/{id}/name" => "/v1/users/7/name".to_owned(),
                _ => panic!("{template} takes a body: add a path for it to this test"),
            }
        }
    };
    (path, format!("Bearer {}", token(role)))
}

/// Creates a draft from the example in the document.
async fn draft(shop: &Shop) -> String {
    let body = &OPERATIONS.document["components"]["schemas"]["ActivityRequest"]["examples"][0];
    let answer = shop.operate(OperatorRole::Creator, Method::POST, "/v1/activities", Some(body)).await;
    assert_eq!(answer.status, 201, "{answer}");
    answer.text("id").to_owned()
}

/// Orders one unit.
async fn order(shop: &Shop, user: u64) -> String {
    let ticket = shop.buyer(user).await.ask_for_ticket(101, 104_001).await;
    let answer = shop.order_with(ticket.text("ticket"), &[], 1).await;
    assert_eq!(answer.status, 201, "{answer}");
    answer.text("order_id").to_owned()
}

/// Creates a dead letter.
async fn dead_letter(shop: &Shop, number: u64) -> String {
    let (queue, topic) = (&shop.app.queue, "letters".parse().unwrap());
    queue.put(vec![NewJob::now(&topic, &format!("letter/{number}"), &()).unwrap()]).await.unwrap();
    let claimed = queue.claim(&topic, 1, Duration::ZERO).await.unwrap();
    let claim = claimed.jobs[0].claim;
    let verdict = Verdict::Park { error: "nobody lives there".to_owned() };
    assert_eq!(queue.settle(vec![Settlement { claim, verdict }]).await.unwrap(), [true]);
    claim.number.to_string()
}

/// Makes a callback that is parked.
async fn parked_callback(shop: &Shop, number: u64) -> String {
    let report = json!({ "event_id": number.to_string(), "kind": "chargeback" });
    let body = report.to_string();
    assert_eq!(shop.report(&report).await.status, 200);
    loop {
        let answer = shop.operate(OperatorRole::Operator, Method::GET, "/v1/callbacks?limit=100", None).await;
        let kept = answer.body["items"].as_array().unwrap().iter();
        if let Some(kept) = kept.into_iter().find(|kept| kept["body"] == body) {
            return kept["id"].as_str().unwrap().to_owned();
        }
        shop.app.callbacks.worker().work_once().await.unwrap();
    }
}

/// Reads all state that a call could change. The audit trail covers every operator change.
async fn state(shop: &Shop) -> Vec<Value> {
    let mut paths: Vec<String> =
        ["/v1/audit/verification", "/v1/kill-switch", "/v1/activities?limit=100", "/v1/reconciliation"]
            .map(ToOwned::to_owned)
            .into();
    paths.push(format!("{OFFER}/stock"));
    paths.extend((1000..1020).map(|user| format!("/v1/orders?user_id={user}")));
    let mut state = Vec::new();
    for path in paths {
        let answer = shop.operate(OperatorRole::Operator, Method::GET, &path, None).await;
        assert_eq!(answer.status, 200, "{path}: {answer}");
        state.push(answer.body);
    }
    state
}

/// Adds a field to a body.
fn with(body: &Value, pointer: &str, name: &str) -> Value {
    let mut body = body.clone();
    body.pointer_mut(pointer).unwrap()[name] = json!("1");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_field_is_rejected_by_name_and_nothing_changes() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(&directory.path().join("data")).await;
    import_demo(&shop).await;
    for (method, template) in EXCEPTED {
        let is_there =
            |contract: &Contract| contract.calls().any(|(m, path, _)| (m, path) == (method, template));
        assert!(is_there(&PUBLIC) || is_there(&OPERATIONS), "{method} {template} does not exist");
    }
    let mut calls_of_both = calls(&shop, &PUBLIC).await;
    calls_of_both.extend(calls(&shop, &OPERATIONS).await);
    let mut calls = calls_of_both;
    let backup = directory.path().join("backup");
    for call in calls.iter_mut().filter(|call| call.path == "/v1/backup") {
        call.body["directory"] = json!(backup);
    }

    let (before, mut tried) = (state(&shop).await, 0);
    for call in &calls {
        for JsonPath { pointer, prefix, known } in call.objects() {
            for name in UNKNOWN.iter().filter(|name| !known.contains(name)) {
                let answer = call.send(&shop, &with(&call.body, &pointer, name)).await;
                let case = format!("{} {} with {prefix}{name}", call.method, call.path);
                assert_eq!(
                    (answer.status.as_u16(), answer.code()),
                    (400, "invalid_request"),
                    "{case}: {answer}"
                );
                assert_eq!(answer.text("field"), format!("{prefix}{name}"), "{case}: {answer}");
                tried += 1;
            }
        }
        assert_eq!(state(&shop).await, before, "{} {} changed something", call.method, call.path);
    }
    assert!(!backup.exists());
    assert!(calls.len() >= 20 && tried > 250, "{} calls, {tried} bodies", calls.len());

    // Without the unknown field, every call succeeds, but for one that no jump of the clock needs.
    for call in &calls {
        let answer = call.send(&shop, &call.body).await;
        if call.path == "/v1/clock/step" {
            assert_eq!(answer.code(), "wrong_state", "{answer}");
            continue;
        }
        assert!(answer.status.is_success(), "{} {}: {answer}", call.method, call.path);
    }
    assert!(backup.exists());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_with_an_unknown_field_is_rejected_as_a_whole() {
    let shop = Shop::open().await;
    let body = OPERATIONS.document["components"]["schemas"]["Import"]["examples"][0].clone();
    let places = [
        "",
        "/products/0",
        "/skus/0",
        "/skus/0/list_price",
        "/activities/0",
        "/activities/0/offers/0",
        "/activities/0/offers/0/price",
        "/activities/0/offers/0/limits/0",
    ];
    let audit =
        async || shop.operate(OperatorRole::Auditor, Method::GET, "/v1/audit/verification", None).await.body;
    let before = audit().await;
    let import = async |body: &Value| {
        shop.operate(OperatorRole::Operator, Method::POST, "/v1/import", Some(body)).await
    };
    for place in places {
        for name in ["version", "paid_at", "sold", "actor"] {
            let answer = import(&with(&body, place, name)).await;
            expect(&answer, 400, "invalid_request");
            let problems = answer.body["problems"].to_string();
            assert!(problems.contains(&format!("unknown field `{name}`")), "{place}: {problems}");
        }
    }
    let not_objects = json!([[], [], []]);
    expect(&import(&not_objects).await, 400, "invalid_request");
    assert_eq!(audit().await, before);
    assert_eq!(import(&body).await.status, 200);
    assert_ne!(audit().await, before);
}
