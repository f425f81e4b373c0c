//! Names that others rely on: HTTP calls and fields, metrics, configuration keys. Golden files
//! record them; FLASHSALE_WRITE_GOLDEN=1 updates them after an intended change.

use std::{collections::BTreeSet, fs, path::Path};

use hyper::{Method, StatusCode};
use reference_server::config::Checked;
use serde_json::Value;

use crate::{
    contract::{OPERATIONS, PUBLIC},
    shop::Shop,
};

fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/golden").join(name);
    if std::env::var_os("FLASHSALE_WRITE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    let [was, is] = [&expected, actual].map(|text| text.lines().collect::<BTreeSet<_>>());
    let (gone, new): (Vec<_>, Vec<_>) = (was.difference(&is).collect(), is.difference(&was).collect());
    assert!(expected == actual, "{name}: removed {gone:#?}, added {new:#?}");
}

/// Removes the prose of a document, which may change; everything else is part of the contract.
fn without_prose(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property may also be named `description`; prose is always a string.
            fields.retain(|name, value| {
                !(["description", "summary", "title"].contains(&name.as_str()) && value.is_string())
            });
            fields.values_mut().for_each(without_prose);
        }
        Value::Array(items) => items.iter_mut().for_each(without_prose),
        _ => {}
    }
}

fn line(name: &str, value: &Value) -> String {
    let mut value = value.clone();
    without_prose(&mut value);
    format!("{name} {value}")
}

#[test]
fn http_calls_and_fields_are_stable() {
    for contract in [&*PUBLIC, &*OPERATIONS] {
        let mut lines = Vec::new();
        for (method, path, call) in contract.calls() {
            lines.push(line(&format!("{method} {path}"), call));
        }
        for (name, schema) in contract.document["components"]["schemas"].as_object().unwrap() {
            lines.push(line(name, schema));
        }
        golden(&format!("openapi.{}.txt", contract.listener), &(lines.join("\n") + "\n"));
    }
}

#[test]
fn configuration_keys_and_defaults_are_stable() {
    let report = Checked::new(&Default::default(), []).report();
    let lines: Vec<_> = report.lines().map(|line| line.split("  # ").next().unwrap().trim_end()).collect();
    golden("configuration.txt", &(lines.join("\n") + "\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_stable() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(7).await;
    let order = buyer.buy(11, 1).await;
    let payment = buyer.pay(&order).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);
    let answer = shop.call_operations("/metrics").await;
    let mut metrics = BTreeSet::new();
    for line in answer.body.as_str().unwrap().lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            metrics.insert(format!("type {kind}"));
        } else if !line.starts_with('#') {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let keys: Vec<_> =
                labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(key, _)| key).collect();
            metrics.insert(format!("{name}{{{}}}", keys.join(",")));
        }
    }
    golden("metrics.txt", &(metrics.into_iter().collect::<Vec<_>>().join("\n") + "\n"));
    shop.close().await;
}
