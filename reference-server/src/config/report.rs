//! The report of `check-config`: each key with its effective value and source.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Config, Source};

/// Formats one line per key, such as `demo = true  # flag --demo`. Secrets show as `set`.
pub(super) fn report(config: &Config, sources: &BTreeMap<String, Source>) -> String {
    let document = serde_json::to_value(config).expect("a configuration can be serialized");
    let mut lines = Vec::new();
    collect("", &document, &mut lines);
    let width =
        lines.iter().map(|(key, value)| key.len() + value.chars().count() + 3).max().unwrap_or(0).min(80);
    let mut text = String::new();
    for (key, value) in lines {
        let set = sources.iter().find(|(set, _)| {
            key.strip_prefix(set.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        let source = set.map_or(&Source::Default, |(_, source)| source);
        let assignment = format!("{key} = {value}");
        text.push_str(&format!("{assignment:<width$}  # {source}\n"));
    }
    text
}

fn collect(key: &str, value: &Json, lines: &mut Vec<(String, String)>) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                collect(&key, value, lines);
            }
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for (index, item) in items.iter().enumerate() {
                collect(&format!("{key}[{index}]"), item, lines);
            }
        }
        Json::Null => lines.push((key.to_owned(), "none".to_owned())),
        value => lines.push((key.to_owned(), value.to_string())),
    }
}
