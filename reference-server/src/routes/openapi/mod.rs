//! The OpenAPI document of each listener.
//!
//! Both listeners have calls with the same path, such as `GET /v1/orders`, and a document has one place for each: so
//! each listener describes its own calls. A call is a row in `public` or `operations`; what goes in and out is in
//! `components.json`. Statuses and words of problems come from [`Code`]. The integration tests hold
//! every answer that they see against the document, so a row that is missing or says something else fails there.

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
    let about = "What buyers, their pages and payment providers call. With configured origins, browsers may ask \
        before they call (OPTIONS, answered 204). Other methods than those of a path are answered 405.";
    document("flashsale: public listener", about, &public::operations())
});

static OPERATIONS: LazyLock<Document> = LazyLock::new(|| {
    let about = "What operators and monitors call, on a listener of its own. Whoever has a token is answered 405 to other \
        methods than those of a path; nobody else learns which paths there are.";
    document("flashsale: operations listener", about, &operations::operations())
});

/// The calls of the public listener, as `application/json`.
pub fn public() -> &'static Document {
    &PUBLIC
}

/// The calls of the operations listener, as `application/json`.
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
    Document::json(CACHE, &document).expect("JSON values can be written")
}

/// The components, with the lists that the code has.
fn components() -> Value {
    let mut components: Value = serde_json::from_str(COMPONENTS).expect("the file is JSON, as the tests see");
    components["schemas"]["Currency"]["enum"] = currencies().into();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    components["schemas"]["Problem"]["properties"]["code"]["enum"] = json!(codes);
    components["responses"] = json!({ "OtherMethods": operation::other_methods() });
    components
}

/// Every currency that is accepted.
fn currencies() -> Vec<String> {
    let letters = || (b'A'..=b'Z').map(char::from);
    let words = letters()
        .flat_map(|a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))));
    words.filter(|word| word.parse::<Currency>().is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::document::Encoding;

    /// The arms of a routing `match`: a line that begins with a slice pattern, as a path with `{}` for what varies.
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
        // What has a rest goes on to arms of its own, or to the pages.
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

    /// Every arm has a described path, and every described path an arm.
    #[track_caller]
    fn expect_described(arms: &BTreeSet<String>, operations: &[Operation]) {
        assert!(arms.len() > 5, "arms are read as they are written: {arms:?}");
        let paths: BTreeSet<String> = operations.iter().map(|operation| shape(&operation.path)).collect();
        for arm in arms {
            assert!(paths.iter().any(|path| path == arm), "{arm} is routed and has no row in routes/openapi");
        }
        for path in paths {
            assert!(arms.iter().any(|arm| fits(arm, &path)), "{path} is described and not routed");
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
                assert!(pages.contains(&path), "{path} is routed and has no row in routes/openapi");
            }
        }
    }

    #[test]
    fn every_link_leads_to_a_call_and_a_parameter_of_it() {
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
    fn every_reference_leads_somewhere() {
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
                let there = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                assert!(there.is_some(), "{reference}");
            });
            assert!(references > 50, "{references}");
        }
    }
}
