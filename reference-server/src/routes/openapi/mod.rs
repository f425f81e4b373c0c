//! The OpenAPI document of each listener.
//!
//! Both listeners have operations with the same path, such as `GET /v1/orders`, so each has its own
//! document. An operation is a row in `public` or `operations`; its schemas are in
//! `components.json`. Statuses and codes of problems come from [`Code`]. The integration tests
//! check every response against the document, so a missing or wrong row fails there.

mod operation;
mod operations;
mod public;

use std::sync::LazyLock;

use flashsale_core::domain::Currency;
use serde_json::{Map, Value, json};

use self::operation::Operation;
use crate::http::{Code, document::Document};

const CACHE: &str = "public, max-age=60";
const COMPONENTS: &str = include_str!("components.json");

static PUBLIC: LazyLock<Document> = LazyLock::new(|| {
    let about = "For buyers, the pages of the shop, and payment providers. If CORS origins are configured, \
        preflight requests (OPTIONS) are answered 204. If a health path is configured, GET there is answered \
        200, and 503 once only a restart of the server helps. Methods that a path does not have are answered 405.";
    document("flashsale: public listener", about, &public::operations())
});

static OPERATIONS: LazyLock<Document> = LazyLock::new(|| {
    let about = "For operators and monitoring, on a separate listener. Methods that a path does not have are \
        answered 405; under /v1 only to a valid token: any other request there is answered 401.";
    document("flashsale: operations listener", about, &operations::operations())
});

/// Returns the OpenAPI document of the public listener, as `application/json`.
pub fn public() -> &'static Document {
    &PUBLIC
}

/// Returns the OpenAPI document of the operations listener, as `application/json`.
pub fn operations() -> &'static Document {
    &OPERATIONS
}

fn document(title: &str, about: &str, operations: &[Operation]) -> Document {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": about,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": components(),
    });
    Document::json(CACHE, &document).expect("a JSON value serializes")
}

/// Reads the components and fills in the enumerations that the code defines.
fn components() -> Value {
    let mut components: Value = serde_json::from_str(COMPONENTS).expect("tests verify that this is JSON");
    components["schemas"]["Currency"]["enum"] = Currency::all().map(String::from).collect();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    components["schemas"]["Problem"]["properties"]["code"]["enum"] = json!(codes);
    components["responses"] = json!({ "OtherMethods": operation::other_methods() });
    components
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::document::Encoding;

    /// Extracts the arms of a routing `match` from source text, with `{}` for variable segments.
    fn arms(source: &str) -> BTreeSet<String> {
        let lines = source.lines().map(str::trim).filter(|line| line.starts_with('[') && line.contains("=>"));
        let patterns = lines.filter_map(|line| line[1..].split_once(']')).map(|(pattern, _)| pattern);
        let path = |pattern: &str| {
            let words = pattern.split(',').map(str::trim).map(|word| match word.strip_prefix('"') {
                Some(word) => word.trim_end_matches('"'),
                None => "{}",
            });
            words.fold(String::new(), |path, word| path + "/" + word)
        };
        // A pattern with a rest leads to further arms or to the pages.
        patterns.filter(|pattern| !pattern.contains("..") && !pattern.is_empty()).map(path).collect()
    }

    fn shape(path: &str) -> String {
        path.split('/')
            .map(|word| if word.starts_with('{') { "{}" } else { word })
            .collect::<Vec<_>>()
            .join("/")
    }

    fn fits(arm: &str, path: &str) -> bool {
        let (arm, path): (Vec<_>, Vec<_>) = (arm.split('/').collect(), path.split('/').collect());
        arm.len() == path.len() && arm.iter().zip(&path).all(|(arm, word)| arm == word || *arm == "{}")
    }

    /// Asserts that every arm has a described path, and every described path an arm.
    #[track_caller]
    fn expect_described(arms: &BTreeSet<String>, operations: &[Operation]) {
        assert!(arms.len() > 5, "the source was not parsed: {arms:?}");
        let paths: BTreeSet<String> = operations.iter().map(|operation| shape(&operation.path)).collect();
        for arm in arms {
            assert!(paths.iter().any(|path| path == arm), "{arm} is routed but has no row in routes/openapi");
        }
        for path in paths {
            assert!(arms.iter().any(|arm| fits(arm, &path)), "{path} is described but not routed");
        }
    }

    #[test]
    fn every_call_is_described() {
        let (pages, calls): (Vec<_>, Vec<_>) = public::operations().into_iter().partition(Operation::is_page);
        let pages: BTreeSet<String> = pages.iter().map(|page| shape(&page.path)).collect();
        let routed = arms(include_str!("../public/mod.rs")).into_iter();
        let (mut of_pages, mut routed): (BTreeSet<_>, BTreeSet<_>) =
            routed.partition(|arm| pages.contains(arm));
        of_pages.extend(arms(include_str!("../public/catalogue.rs")));
        let of_orders = arms(include_str!("../public/orders.rs"));
        routed.extend(of_orders.iter().map(|arm| arm.replacen("/{}/{}", "/v1/orders", 1)));
        expect_described(&routed, &calls);
        let calls: Vec<_> = operations::operations().into_iter().filter(|call| !call.is_page()).collect();
        expect_described(&arms(include_str!("../operations/mod.rs")), &calls);

        for arm in of_pages {
            for path in [arm.clone(), format!("{arm}/"), format!("/{{}}{arm}"), format!("/{{}}{arm}/")] {
                assert!(pages.contains(&path), "{path} is routed but has no row in routes/openapi");
            }
        }
    }

    #[test]
    fn every_link_names_an_operation_and_one_of_its_parameters() {
        for document in [public(), operations()] {
            let body = document.body(Encoding::Identity).unwrap();
            let document: Value = serde_json::from_slice(body).unwrap();
            let items = || document["paths"].as_object().unwrap().values();
            let calls = || items().flat_map(|item| item.as_object().unwrap().values());
            let answers = calls().flat_map(|call| call["responses"].as_object().unwrap().values());
            let links = answers.filter_map(|answer| answer["links"].as_object()).flat_map(Map::values);
            let mut count = 0;
            for link in links {
                count += 1;
                let call = calls().find(|call| call["operationId"] == link["operationId"]);
                let parameters = call.unwrap_or_else(|| panic!("{link}"))["parameters"].as_array().unwrap();
                let names = parameters.iter().map(|parameter| {
                    let pointer = parameter["$ref"].as_str().unwrap().trim_start_matches('#');
                    document.pointer(pointer).unwrap()["name"].as_str().unwrap()
                });
                let names: Vec<_> = names.collect();
                for parameter in link["parameters"].as_object().unwrap().keys() {
                    assert!(names.contains(&parameter.as_str()), "{link}: {names:?}");
                }
            }
            assert!(count > 5, "{count}");
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn walk(value: &Value, visit: &mut impl FnMut(&str)) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        visit(reference);
                    }
                    members.values().for_each(|value| walk(value, visit));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
                _ => {}
            }
        }
        for document in [public(), operations()] {
            let body = document.body(Encoding::Identity).unwrap();
            let document: Value = serde_json::from_slice(body).unwrap();
            let mut references = 0;
            walk(&document, &mut |reference| {
                references += 1;
                let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                assert!(target.is_some(), "{reference}");
            });
            assert!(references > 50, "{references}");
        }
    }
}
