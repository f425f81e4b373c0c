//! Configuration: one struct per concern, every key with a default, all problems reported at once.
//!
//! Flags win over the file (`--config`), which wins over the defaults here. Unknown keys are refused.

mod http;
mod identity;
mod ids;
mod operations;
mod payment;
mod rate;
mod sale;
mod secret;

use std::{fmt, fs};

use serde::Deserialize;

pub use http::HttpConfig;
pub use identity::IdentityConfig;
pub use ids::IdsConfig;
pub use operations::{OperationsConfig, OperationsToken, Role};
pub use payment::PaymentConfig;
pub use rate::RateConfig;
pub use sale::{OrderConfig, StorageConfig, TicketConfig};
pub use secret::{Secret, SecretsConfig, TicketKey};

use crate::cli::ServeArgs;

/// Everything that the server can be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `demo`: demo identity, sandbox provider, generated secrets and tokens. Default false; flag `--demo`.
    pub demo: bool,
    /// `[http]`: listeners, runtimes and limits of the transport.
    pub http: HttpConfig,
    /// `[storage]`: where the embedded engine keeps its data.
    pub storage: StorageConfig,
    /// `[order]`: queues in front of the ledger.
    pub order: OrderConfig,
    /// `[ticket]`: when tickets are issued and how long they hold.
    pub ticket: TicketConfig,
    /// `[identity]`: who buyers are.
    pub identity: IdentityConfig,
    /// `[ids]`: how ids are made.
    pub ids: IdsConfig,
    /// `[payment]`: who takes the money, and how long that may take.
    pub payment: PaymentConfig,
    /// `[rate]`: how often one buyer may ask.
    pub rate: RateConfig,
    /// `[operations]`: who may use the operations listener.
    pub operations: OperationsConfig,
    /// `[secrets]`: files that hold keys.
    pub secrets: SecretsConfig,
}

/// All that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Config {
    /// Reads the file that `args` name, if any, and puts the flags over it.
    ///
    /// # Errors
    ///
    /// All problems at once, each with its key and what is allowed.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigErrors> {
        let one = |problem: String| ConfigErrors(vec![problem]);
        let mut config = match &args.storage.config {
            None => Self::default(),
            Some(file) => {
                let text = fs::read_to_string(file)
                    .map_err(|error| one(format!("--config {}: {error}", file.display())))?;
                Self::parse(&text).map_err(|ConfigErrors(problems)| {
                    let place = |problem| format!("{}: {problem}", file.display());
                    ConfigErrors(problems.into_iter().map(place).collect())
                })?
            }
        };
        config.demo |= args.demo;
        config.identity.demo |= config.demo;
        config.payment.sandbox |= config.demo;
        config.http.shared_runtime |= args.shared_runtime;
        if args.in_memory {
            config.storage.in_memory = true;
        }
        if let Some(directory) = &args.storage.data {
            config.storage.directory.clone_from(directory);
        }
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
    }

    /// Reads the text of a configuration file table by table, so that one bad table does not hide another.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        let table: toml::Table = text.parse().map_err(|error| ConfigErrors(vec![syntax(text, &error)]))?;
        let mut problems = Vec::new();
        for (key, value) in &table {
            // Each key alone in a document of its own: its error hides no other one.
            let documents: Vec<(String, toml::Table)> = match value {
                toml::Value::Table(fields) => fields
                    .iter()
                    .map(|(field, value)| (format!("{key}.{field}"), nested(key, field, value)))
                    .collect(),
                other => vec![(key.clone(), toml::Table::from_iter([(key.clone(), other.clone())]))],
            };
            for (name, document) in documents {
                if let Err(error) = document.try_into::<Self>() {
                    problems.push(format!("{name}: {}", error.message()));
                }
            }
        }
        if !problems.is_empty() {
            return Err(ConfigErrors(problems));
        }
        table.try_into().map_err(|error: toml::de::Error| ConfigErrors(vec![error.message().to_owned()]))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.http.check(&mut problems);
        self.storage.check(&mut problems);
        self.order.check(&mut problems);
        self.ticket.check(&mut problems);
        self.identity.check(&mut problems);
        self.ids.check(&mut problems);
        self.payment.check(&mut problems);
        self.rate.check(&mut problems);
        self.operations.check(&mut problems);
        problems
    }
}

/// What is wrong and on which line, without the line: it may hold a token.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    match error.span().and_then(|span| text.as_bytes().get(..span.start)) {
        Some(before) => {
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    }
}

fn nested(key: &str, field: &str, value: &toml::Value) -> toml::Table {
    let inner = toml::Table::from_iter([(field.to_owned(), value.clone())]);
    toml::Table::from_iter([(key.to_owned(), toml::Value::Table(inner))])
}

/// Notes a problem if `value` is outside `allowed`.
fn within<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<String>,
    key: &str,
    value: T,
    allowed: std::ops::RangeInclusive<T>,
) {
    if !allowed.contains(&value) {
        problems.push(format!("{key}: {value} is outside {} to {}", allowed.start(), allowed.end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once_with_their_keys() {
        let text = "demo = 3\n[http]\nbody_bytes = \"much\"\nspeed = 1\n[other]\nkey = 1\n";
        let ConfigErrors(problems) = Config::parse(text).unwrap_err();
        for key in ["demo:", "http.body_bytes:", "http.speed:", "other.key:"] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn values_are_checked_together() {
        let text = "[http]\nhead_fields = 101\nbody_timeout_ms = 0\npublic_url = \"shop.example/\"\n[order]\nmax_batch = 0\n";
        let problems = Config::parse(text).unwrap().problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (url, good) in
            [("https://shop.example", true), ("http://127.0.0.1:8080", true), ("https://", false)]
        {
            let config = Config::parse(&format!("[http]\npublic_url = \"{url}\"\n")).unwrap();
            assert_eq!(config.problems().is_empty(), good, "{url}");
        }
        assert!(Config::default().problems().is_empty());
    }

    #[test]
    fn secrets_do_not_show() {
        let text = "[[operations.tokens]]\nname = \"ann\"\nroles = [\"creator\"]\ntoken = \"0123456789abcdef-hidden\"\n";
        let config = Config::parse(text).unwrap();
        assert!(config.problems().is_empty());
        assert!(config.operations.tokens[0].token.matches(b"0123456789abcdef-hidden"));
        assert!(!format!("{config:?}").contains("hidden"));
        for broken in
            ["token = \"hidden", "token = hidden", "token = \"hidden\" hidden", "token = [\"hidden\" 1]"]
        {
            let error = Config::parse(&format!("[http]\n{broken}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2: ") && !error.contains("hidden"), "{error}");
        }
    }
}
