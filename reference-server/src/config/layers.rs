//! Merges the layers of the configuration key by key: defaults, file, environment, flags.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path, path::PathBuf};

use serde_json::Value as Json;
use toml::{Table, Value};

use super::Config;

/// The prefix of variables that set a key, such as `FLASHSALE__HTTP__PUBLIC` for `http.public`.
///
/// Two underscores, because orchestrators define their own, such as `FLASHSALE_SERVICE_HOST`.
const PREFIX: &str = "FLASHSALE__";

/// Variables with special names.
const SHORT: &[(&str, &str)] = &[("FLASHSALE_LOG", "log.filter")];

/// Renamed keys: old name, new name.
const RENAMED: &[(&str, &str)] = &[("secrets.session_key_file", "secrets.session_key_files")];

/// Where an effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file) => write!(f, "file {}", file.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The merged values, the source of each, and the problems found so far.
pub(super) struct Layers {
    /// The defaults as JSON, which define the known keys.
    known: Json,
    values: Table,
    sources: BTreeMap<String, Source>,
    problems: Vec<String>,
}

impl Layers {
    pub(super) fn new() -> Self {
        let known = serde_json::to_value(Config::default()).expect("a configuration can be serialized");
        Self { known, values: Table::new(), sources: BTreeMap::new(), problems: Vec::new() }
    }

    /// Adds the text of a configuration file.
    pub(super) fn file(&mut self, file: Option<&Path>, text: &str) {
        let source = Source::File(file.unwrap_or(Path::new("text")).to_owned());
        match text.parse::<Table>() {
            Ok(table) => self.walk("", table, &source),
            Err(error) => {
                let place = file.map(|file| format!("{}: ", file.display())).unwrap_or_default();
                self.problems.push(format!("{place}{}", syntax(text, &error)));
            }
        }
    }

    fn walk(&mut self, parent: &str, table: Table, source: &Source) {
        for (name, value) in table {
            let key = if parent.is_empty() { name } else { format!("{parent}.{name}") };
            match value {
                Value::Table(inner) if self.is_table(&key) => self.walk(&key, inner, source),
                value => self.set(&key, value, source.clone()),
            }
        }
    }

    /// Adds environment variables; unrelated ones are ignored.
    pub(super) fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let keys = keys(&self.known);
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let short = SHORT.iter().find(|(short, _)| *short == name).map(|(_, key)| (*key).to_owned());
            let key =
                short.or_else(|| Some(name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", ".")));
            let Some(key) = key else {
                let meant =
                    keys.iter().map(|key| variable(key)).find(|meant| meant.replace("__", "_") == name);
                if let Some(meant) = meant {
                    self.problems.push(format!("{name}: has no effect; name the variable {meant}"));
                }
                continue;
            };
            let source = Source::Environment(name.to_owned());
            match value.to_str() {
                Some(text) => self.text(&key, text, source),
                None => self.problems.push(format!("{name}: the value is not UTF-8")),
            }
        }
    }

    /// Sets a key from text: as a TOML value if it parses and fits the key, else as a string.
    fn text(&mut self, key: &str, text: &str, source: Source) {
        let value = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| {
            let value = table.remove("value").filter(|_| table.is_empty())?;
            Config::try_from_table(nested(key, value.clone())).is_ok().then_some(value)
        });
        self.set(key, value.unwrap_or_else(|| Value::String(text.to_owned())), source);
    }

    /// Sets a key from a command-line flag.
    pub(super) fn flag(&mut self, key: &str, value: impl Into<Value>, flag: &'static str) {
        self.set(key, value.into(), Source::Flag(flag));
    }

    fn set(&mut self, key: &str, value: Value, source: Source) {
        if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
            self.problems.push(format!("{key}: was renamed; use {new} instead ({source})"));
            return;
        }
        if self.is_list(key) && !value.is_array() {
            let write = if value.is_table() {
                format!("begin each entry with [[{key}]]")
            } else {
                "write it in brackets, with quotes around each text: [\"…\", \"…\"]".to_owned()
            };
            self.problems.push(format!("{key}: is a list; {write} ({source})"));
            return;
        }
        // Check each key in a separate document, so that one error hides no other.
        if let Err(problem) = Config::try_from_table(nested(key, value.clone())) {
            self.problems.push(format!("{key}: {problem} ({source})"));
            return;
        }
        merge(&mut self.values, nested(key, value));
        self.sources.insert(key.to_owned(), source);
    }

    fn is_table(&self, key: &str) -> bool {
        self.default_of(key).and_then(Json::as_object).is_some_and(|fields| !fields.is_empty())
    }

    fn is_list(&self, key: &str) -> bool {
        self.default_of(key).is_some_and(Json::is_array)
    }

    fn default_of(&self, key: &str) -> Option<&Json> {
        key.split('.').try_fold(&self.known, |known, name| known.get(name))
    }

    /// Returns the merged configuration, the source of each key that was set, and all problems.
    pub(super) fn finish(mut self) -> (Config, BTreeMap<String, Source>, Vec<String>) {
        let config = Config::try_from_table(self.values).unwrap_or_else(|problem| {
            self.problems.push(problem);
            Config::default()
        });
        (config, self.sources, self.problems)
    }
}

impl Config {
    fn try_from_table(table: Table) -> Result<Self, String> {
        table.try_into().map_err(|error: toml::de::Error| without_value(error.message()))
    }
}

/// Returns the name of the environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    let short = SHORT.iter().find(|(_, known)| *known == key).map(|(short, _)| (*short).to_owned());
    short.unwrap_or_else(|| format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase()))
}

/// Lists the leaf keys of a document.
pub(super) fn keys(document: &Json) -> Vec<String> {
    fn walk(parent: &str, value: &Json, keys: &mut Vec<String>) {
        match value.as_object().filter(|fields| !fields.is_empty()) {
            Some(fields) => fields.iter().for_each(|(name, value)| {
                let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
                walk(&key, value, keys);
            }),
            None => keys.push(parent.to_owned()),
        }
    }
    let mut keys = Vec::new();
    walk("", document, &mut keys);
    keys
}

/// Builds a table with a single, possibly nested, key.
fn nested(key: &str, value: Value) -> Table {
    match key.split_once('.') {
        Some((name, rest)) => Table::from_iter([(name.to_owned(), Value::Table(nested(rest, value)))]),
        None => Table::from_iter([(key.to_owned(), value)]),
    }
}

/// Merges `over` into `table`, key by key.
fn merge(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

/// Formats a syntax error with its line number, without the line itself: it may contain a token.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    match error.span().and_then(|span| text.as_bytes().get(..span.start)) {
        Some(before) => {
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    }
}

/// Removes the value from a type error's message: it may be a token under the wrong key.
fn without_value(message: &str) -> String {
    let is_about_a_value =
        ["invalid type: ", "invalid value: "].iter().any(|start| message.starts_with(start));
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(start), Some(end)) if is_about_a_value && start < end => {
            format!("{}{}", message[..start].trim_end(), &message[end..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(file: &str, environment: &[(&str, &str)]) -> (Config, BTreeMap<String, Source>, Vec<String>) {
        let mut layers = Layers::new();
        layers.file(None, file);
        layers.environment(environment.iter().map(|(name, value)| (name.into(), value.into())));
        layers.finish()
    }

    #[test]
    fn the_uppermost_layer_wins_and_is_named() {
        let (config, sources, problems) = layers(
            "[http]\nworkers = 2\nbacklog = 7\n[storage]\ndirectory = \"a\"\n",
            &[
                ("FLASHSALE__HTTP__WORKERS", "3"),
                ("FLASHSALE__STORAGE__DIRECTORY", "42"),
                ("FLASHSALE__HTTP__CORS_ORIGINS", "[\"https://a.example\"]"),
                ("FLASHSALE__HTTP__PUBLIC_URL", "https://shop.example"),
                ("FLASHSALE_LOG", "debug,hyper=warn"),
                ("FLASHSALE_SERVICE_HOST", "10.0.0.1"),
                ("FLASHSALE_TOKEN", "of another kind"),
                ("PATH", "/bin"),
            ],
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!((config.http.workers, config.http.backlog), (3, 7));
        assert_eq!(config.storage.directory, Path::new("42"), "a string key takes 42 as text");
        assert_eq!(config.http.cors_origins, ["https://a.example"]);
        assert_eq!(config.log.filter, "debug,hyper=warn");
        assert_eq!(sources["http.workers"].to_string(), "environment FLASHSALE__HTTP__WORKERS");
        assert_eq!(sources["http.backlog"].to_string(), "file text");
        assert!(!sources.contains_key("http.public"));
    }

    #[test]
    fn problems_name_the_key_but_not_the_value() {
        let (_, _, problems) = layers(
            "[secrets]\nsession_key_file = \"a\"\n[http]\nworkers = \"hidden\"\n[[operations.tokens]]\ntoken = 42\n",
            &[
                ("FLASHSALE__HTTP__WORKER", "hidden"),
                ("FLASHSALE__HTTP__BACKLOG", "hidden"),
                ("FLASHSALE_HTTP_PUBLIC", "127.0.0.1:1"),
            ],
        );
        assert_eq!(problems.len(), 6, "{problems:?}");
        let about = |key: &str| {
            let found = problems.iter().find(|problem| problem.starts_with(&format!("{key}: ")));
            found.unwrap_or_else(|| panic!("{key} in {problems:?}"))
        };
        assert!(about("secrets.session_key_file").contains("secrets.session_key_files"));
        assert!(about("http.workers").contains("invalid type: string, expected usize"));
        assert!(about("http.worker").contains("FLASHSALE__HTTP__WORKER"));
        assert!(about("http.backlog").contains("FLASHSALE__HTTP__BACKLOG"));
        assert!(about("FLASHSALE_HTTP_PUBLIC").contains("FLASHSALE__HTTP__PUBLIC"));
        assert!(!about("operations.tokens").contains("42"));
        assert!(!problems.concat().contains("hidden"));
    }

    #[test]
    fn every_key_has_an_environment_variable() {
        let known = serde_json::to_value(Config::default()).unwrap();
        for key in keys(&known) {
            let mut layers = Layers::new();
            layers.environment([(variable(&key).into(), "\u{1}".into())]);
            let (_, sources, problems) = layers.finish();
            let named = problems.iter().any(|problem| problem.starts_with(&format!("{key}: ")));
            assert!(sources.contains_key(&key) || named, "{key}: {problems:?}");
        }
    }
}
