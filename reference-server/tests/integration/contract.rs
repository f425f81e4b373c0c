//! Holds what is answered against the OpenAPI document of the listener.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use flashsale_testkit::client::Answer;
use hyper::Method;
use jsonschema::Validator;
use reference_server::{
    document::{Document, Encoding},
    routes::openapi,
};
use serde_json::{Value, json};

use crate::shop::Shop;

/// The document of a listener.
pub(crate) struct Contract {
    listener: &'static str,
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

    /// Fails unless the call is described, and its answer is one of those that the description has.
    pub(crate) fn check(&self, method: &Method, uri: &str, answer: &Answer) {
        let path = uri.split('?').next().unwrap();
        // What a HEAD tells is what a GET would.
        let (verb, status) = (method.as_str().to_lowercase().replace("head", "get"), answer.status.as_u16());
        let call = format!("{method} {path} of the {} listener", self.listener);
        let template = self.template(path);
        let Some((template, operation)) =
            template.and_then(|(template, item)| Some((template, item.get(&verb)?)))
        else {
            // Whoever is not let in learns nothing of paths; browsers ask before they call from elsewhere.
            let nothing = [401, 404, 405].contains(&status) || (*method == Method::OPTIONS && status == 204);
            assert!(nothing, "{call} is not described (src/routes/openapi), and is answered {answer}");
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
            assert!(wrong.is_empty(), "{call}: {answer} is not as declared: {wrong:#?}");
        }
    }

    /// The path of the document that a path fits best: the one that leaves least open.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_shows_its_own_calls() {
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
