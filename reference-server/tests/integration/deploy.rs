//! `deploy/` matches this server: its metrics exist, and its example configuration is valid.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use hyper::{Method, StatusCode};
use reference_server::cli::{args::ServeArgs, check_config};
use serde_json::Value;

use crate::{
    shop::{Shop, catalogue},
    tls::Pair,
};

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap()
}

/// Returns our metric names in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("flashsale_") || word.starts_with("process_"))
}

/// Returns the queries of a dashboard, including those of its variables.
fn queries(board: &Value) -> Vec<String> {
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables = board["templating"]["list"].as_array().unwrap().iter();
    let texts = targets.map(|target| &target["expr"]).chain(variables.map(|variable| &variable["query"]));
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Returns the `expr` of each rule.
fn expressions(rules: &str) -> Vec<String> {
    let mut expressions: Vec<String> = Vec::new();
    let mut inside = false;
    for line in rules.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("expr:") {
            expressions.push(rest.to_owned());
            inside = true;
        } else if inside && !["for:", "labels:"].iter().any(|key| line.starts_with(key)) {
            expressions.last_mut().unwrap().push_str(line);
        } else {
            inside = false;
        }
    }
    expressions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboard_use_exactly_the_metrics_that_exist() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.app.metrics.watch_certificate(&Pair::issue().tls);
    shop.import(&catalogue()).await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 1).await;
    assert_eq!(buyer.call(Method::POST, &format!("/v1/orders/{order}/cancel")).await.status, StatusCode::OK);
    let page = shop.call_operations("/metrics").await;
    let page = page.body.as_str().unwrap();
    let mut there: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let labels = rest.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
        there.entry(name).or_default().extend(labels.map(|label| label.trim_start_matches(',')));
    }

    let board: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let places = panels.iter().map(|panel| panel["gridPos"].to_string());
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!((ids.len(), places.collect::<BTreeSet<_>>().len()), (panels.len(), panels.len()));
    let (rules, board) = (expressions(&read("alerts.yml")), queries(&board));
    assert!(rules.len() > 12 && board.len() > 30, "{} rules, {} queries", rules.len(), board.len());
    let mut used = BTreeSet::new();
    for query in rules.iter().chain(&board) {
        for name in names(query) {
            let labels = there.get(name).unwrap_or_else(|| panic!("{name} of {query} is not in\n{page}"));
            used.insert(name);
            // Check the labels in the selector, except those that Prometheus adds.
            let Some((_, rest)) = query.split_once(&format!("{name}{{")) else { continue };
            let (selector, _) = rest.split_once('}').unwrap();
            let asked =
                selector.split('"').step_by(2).map(|part| part.trim_matches([',', ' ', '=', '~', '!']));
            for label in asked.filter(|label| !["", "instance"].contains(label)) {
                assert!(labels.contains(label), "{name} has no label {label}: {query}");
            }
        }
    }
    // Conversely, every metric is used.
    let base = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let used: BTreeSet<String> = used.into_iter().map(base).collect();
    let unused: Vec<_> = there.keys().map(|name| base(name)).filter(|name| !used.contains(name)).collect();
    assert_eq!(unused, [""; 0], "neither in a rule nor on the dashboard");
    shop.close().await;
}

#[test]
fn the_runbook_covers_every_alert() {
    let runbook = fs::read_to_string(deploy("../docs/OPERATIONS.md")).unwrap();
    let rules = read("alerts.yml");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), expressions(&rules).len());
    for alert in alerts {
        assert!(runbook.lines().any(|line| line == format!("### {alert}")), "{alert}");
    }
}

#[test]
fn the_example_configuration_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    let text = read("flashsale.toml");
    let credentials = "/run/credentials/flashsale.service";
    let unit = read("flashsale.service");
    for file in text.split('"').filter_map(|part| part.strip_prefix(&format!("{credentials}/"))) {
        assert!(unit.contains(&format!("LoadCredential={file}:")), "the unit does not provide {file}");
        let content = if file == "jwks.json" {
            r#"{"keys":[{"kty":"oct","alg":"HS256","k":"YSBzZWNyZXQgb2YgdGhlIHRlc3RzIHRoYXQgaXMgbG9uZyBlbm91Z2g"}]}"#
                .to_owned()
        } else {
            format!("{file}: a secret of the tests")
        };
        fs::write(directory.path().join(file), content).unwrap();
    }
    let file = directory.path().join("flashsale.toml");
    fs::write(&file, text.replace(credentials, place)).unwrap();
    let mut args = ServeArgs::default();
    args.storage.config = Some(file);
    let checked = check_config::check(&args, []);
    assert!(checked.report().contains("operations.tokens[2].name = \"on-call\""), "{}", checked.report());
    if let Err(problems) = checked.accepted() {
        panic!("{problems}");
    }
}
