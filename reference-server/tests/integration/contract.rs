//! Checks every response against the OpenAPI document of its listener.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex},
};

use flashsale_testkit::client::Answer;
use hyper::Method;
use jsonschema::Validator;
use reference_server::{
    http::document::{Document, Encoding},
    routes::openapi,
};
use serde_json::{Value, json};

use crate::shop::Shop;

/// The OpenAPI document of a listener.
pub(crate) struct Contract {
    pub(crate) listener: &'static str,
    pub(crate) document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// The contract of the public listener.
pub(crate) static PUBLIC: LazyLock<Contract> = LazyLock::new(|| Contract::of("public", openapi::public()));
/// The contract of the operations listener.
pub(crate) static OPERATIONS: LazyLock<Contract> =
    LazyLock::new(|| Contract::of("operations", openapi::operations()));

impl Contract {
    fn of(listener: &'static str, document: &Document) -> Self {
        let document = serde_json::from_slice(document.body(Encoding::Identity).unwrap()).unwrap();
        Self { listener, document, validators: Mutex::default() }
    }

    /// Returns every operation: its method in lower case, its path and its description.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, call)| (method.as_str(), path.as_str(), call))
        })
    }

    /// Follows the references of a schema. Of alternatives, takes the first that is not `null`.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.resolve(self.document.pointer(reference.trim_start_matches('#')).unwrap());
        }
        let alternatives = schema["anyOf"].as_array().filter(|_| schema.get("properties").is_none());
        let is_value = |schema: &&Value| schema["type"] != "null";
        alternatives.map_or(schema, |schemas| self.resolve(schemas.iter().find(is_value).unwrap()))
    }

    /// Panics unless the document describes this call and this response.
    pub(crate) fn check(&self, method: &Method, uri: &str, answer: &Answer) {
        let path = uri.split('?').next().unwrap();
        // HEAD returns the headers of GET.
        let (verb, status) = (method.as_str().to_lowercase().replace("head", "get"), answer.status.as_u16());
        let call = format!("{method} {path} of the {} listener", self.listener);
        let template = self.template(path);
        let Some((template, operation)) =
            template.and_then(|(template, item)| Some((template, item.get(&verb)?)))
        else {
            // Unauthorized clients learn nothing about paths; browsers send CORS preflights.
            let nothing = [401, 404, 405].contains(&status) || (*method == Method::OPTIONS && status == 204);
            assert!(nothing, "{call} is not described in src/routes/openapi but returned {answer}");
            return;
        };
        let code = answer.code();
        let Some(response) = operation["responses"].get(status.to_string()) else {
            panic!("{call}: {status} {code} is not declared for {verb} {template}");
        };
        assert!(!answer.header("x-request-id").is_empty(), "{call}: no request id");
        if *method == Method::HEAD || response.get("content").is_none() {
            assert!(answer.body.is_null(), "{call}: a body is not declared: {answer}");
            return;
        }
        let media_type = answer.header("content-type").split(';').next().unwrap();
        let contents = response["content"].as_object().unwrap();
        let Some(content) = contents.get(media_type).or_else(|| contents.get("*/*")) else {
            panic!("{call}: {status} with {media_type:?} is not declared for {verb} {template}");
        };
        let is_readable = answer.header("content-encoding").is_empty();
        if is_readable && media_type.ends_with("json") && media_type != "application/schema+json" {
            let validator = self.validator(&format!("{verb} {template} {status}"), &content["schema"]);
            let wrong: Vec<_> = validator
                .iter_errors(&answer.body)
                .map(|error| format!("{} at {}", error, error.instance_path()))
                .collect();
            assert!(wrong.is_empty(), "{call}: {answer} does not match its schema: {wrong:#?}");
        }
    }

    /// Finds the documented path that matches with the fewest parameters.
    fn template(&self, path: &str) -> Option<(&str, &Value)> {
        let words: Vec<_> = path.split('/').collect();
        let is_open = |word: &str| word.starts_with('{');
        let fits = |template: &str| {
            let described: Vec<_> = template.split('/').collect();
            described.len() == words.len()
                && described.iter().zip(&words).all(|(described, word)| match *described {
                    "{language}" => ["zh", "en"].contains(word),
                    open if is_open(open) => !word.is_empty(),
                    same => same == *word,
                })
        };
        let paths = self.document["paths"].as_object().unwrap();
        let fitting = paths.iter().filter(|(template, _)| fits(template));
        fitting
            .map(|(template, item)| (template.as_str(), item))
            .min_by_key(|(template, _)| template.split('/').filter(|word| is_open(word)).count())
    }

    fn validator(&self, name: &str, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        if let Some(validator) = validators.get(name) {
            return Arc::clone(validator);
        }
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": self.document["components"],
            "allOf": [schema],
        });
        let validator = Arc::new(jsonschema::draft202012::new(&whole).unwrap());
        validators.insert(name.to_owned(), Arc::clone(&validator));
        validator
    }
}

/// The statuses and codes of the HTTP contract, with calls that can return each.
const CODES: &[(u16, &str, &[&str])] = &[
    (400, "invalid_request", &["public get /v1/orders", "operations get /v1/audit"]),
    (401, "unauthorized", &["public post /v1/payments/callbacks/{provider}"]),
    (404, "not_found", &["public get /v1/orders/{id}", "operations delete /v1/users/{id}/name"]),
    // Unsupported methods are described once for all paths.
    (405, "method_not_allowed", &[]),
    (403, "forbidden", &["operations put /v1/kill-switch", "operations get /v1/reconciliation"]),
    (403, "denied", &[CHALLENGE, TICKET]),
    (403, "challenge_required", &[TICKET]),
    (403, "ticket_invalid", &[ORDER]),
    (403, "ticket_expired", &[ORDER]),
    (408, "timeout", &[ORDER]),
    (413, "too_large", &[ORDER]),
    (415, "unsupported_media_type", &[ORDER]),
    (431, "head_too_large", &["public get /v1/time", "operations get /healthz"]),
    (409, "sold_out", &[ORDER, PAYMENT]),
    (409, "limit_reached", &[ORDER]),
    (409, "not_started", &[ORDER, CHALLENGE, TICKET]),
    (409, "ended", &[ORDER, CHALLENGE, TICKET]),
    (409, "paused", &[ORDER]),
    (409, "ticket_used", &[ORDER]),
    (409, "not_persisted", &[CANCEL, PAYMENT, "operations post /v1/orders/{id}/refund"]),
    (409, "wrong_state", &[CANCEL, PAYMENT, "operations post /v1/activities/{id}/{verb}"]),
    (409, "insufficient_available", &[ADJUSTMENT]),
    (412, "version_conflict", &["operations patch /v1/activities/{id}", "operations post /v1/products"]),
    (422, "key_reused", &[ORDER, ADJUSTMENT]),
    (429, "rate_limited", &[ORDER, CHALLENGE, TICKET]),
    (503, "busy", &[ORDER]),
    (503, "not_ready", &[ORDER, "operations get /readyz"]),
    (503, "unavailable", &[PAYMENT]),
];
const ORDER: &str = "public post /v1/orders/{id}";
const CANCEL: &str = "public post /v1/orders/{id}/cancel";
const PAYMENT: &str = "public post /v1/orders/{id}/payment";
const CHALLENGE: &str = "public post /v1/activities/{id}/offers/{sku_id}/challenge";
const TICKET: &str = "public post /v1/activities/{id}/offers/{sku_id}/ticket";
const ADJUSTMENT: &str = "operations post /v1/activities/{id}/offers/{sku_id}/adjustments";

/// Returns the codes that a response declares.
fn codes(response: &Value) -> impl Iterator<Item = &str> {
    let schema = &response["content"]["application/problem+json"]["schema"];
    let words = schema.pointer("/allOf/1/properties/code/enum").and_then(Value::as_array);
    words.into_iter().flatten().map(|word| word.as_str().unwrap())
}

#[test]
fn every_error_code_is_declared_where_it_can_occur() {
    let mut declared: BTreeMap<String, BTreeSet<(u16, &str)>> = BTreeMap::new();
    for contract in [&PUBLIC, &OPERATIONS] {
        let other_methods = &contract.document["components"]["responses"]["OtherMethods"];
        assert_eq!(codes(other_methods).collect::<Vec<_>>(), ["method_not_allowed"]);
        for (method, path, call) in contract.calls() {
            let name = format!("{} {method} {path}", contract.listener);
            let responses = call["responses"].as_object().unwrap().iter();
            let of_call: BTreeSet<_> = responses
                .flat_map(|(status, response)| codes(response).map(|code| (status.parse().unwrap(), code)))
                .collect();
            let mut expected = vec![(431, "head_too_large"), (503, "busy"), (503, "unavailable")];
            if call.get("requestBody").is_some() {
                let of_bodies = [
                    (400, "invalid_request"),
                    (408, "timeout"),
                    (413, "too_large"),
                    (415, "unsupported_media_type"),
                ];
                expected.extend(of_bodies);
            }
            if call.get("security").is_some() {
                expected.push((401, "unauthorized"));
            }
            for row in expected {
                assert!(of_call.contains(&row), "{name} does not declare {row:?}");
            }
            declared.insert(name, of_call);
        }
    }
    for (status, code, calls) in CODES {
        for call in *calls {
            assert!(declared[*call].contains(&(*status, *code)), "{call} does not declare {status} {code}");
        }
    }
    let of_calls = declared.values().flatten().copied();
    let all: BTreeSet<_> = of_calls.chain([(405, "method_not_allowed")]).collect();
    // Server faults are not in the table.
    let agreed = CODES.iter().map(|(status, code, _)| (*status, *code)).chain([(500, "internal")]);
    assert_eq!(all, agreed.collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_serves_its_own_document() {
    let shop = Shop::open().await;
    for (contract, answer) in [
        (&PUBLIC, shop.read("/openapi.json").await),
        (&OPERATIONS, shop.call_operations("/openapi.json").await),
    ] {
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.body, contract.document);
        jsonschema::meta::validate(&contract.document["components"]["schemas"]["Problem"]).unwrap();
    }
    assert!(PUBLIC.document["paths"].get("/v1/reconciliation").is_none());
    assert!(OPERATIONS.document["paths"].get("/v1/sessions").is_none());
}
