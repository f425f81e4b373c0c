//! Configuration: one struct per concern, every key with a default, all problems reported at once.
//!
//! Flags win over the environment, that wins over the file (`--config`), and that over the defaults here. Unknown keys
//! are refused. `check-config` shows what is in force and where each value came from.

mod breaker;
mod cache;
mod guard;
mod http;
mod identity;
mod ids;
mod jwt;
mod layers;
mod log;
mod monitor;
mod notifications;
mod operations;
mod payment;
mod queue;
mod rate;
mod report;
mod sale;
mod secret;
mod tls;

use std::{collections::BTreeMap, env, ffi::OsString, fmt, fs};

use serde::{Deserialize, Serialize};

pub use breaker::BreakerConfig;
pub use cache::CacheConfig;
pub use guard::{ChallengeConfig, GuardConfig};
pub use http::HttpConfig;
pub use identity::IdentityConfig;
pub use ids::IdsConfig;
pub use jwt::JwtConfig;
pub use layers::Source;
pub use log::{LogConfig, LogFormat};
pub use monitor::MonitorConfig;
pub use notifications::NotificationsConfig;
pub use operations::{OperationsConfig, OperationsToken, OperatorRole};
pub use payment::PaymentConfig;
pub use queue::QueueConfig;
pub use rate::{Quotas, RateConfig};
pub use sale::{OrderConfig, StorageConfig, TicketConfig};
pub use secret::{Files, Secret, SecretsConfig, TicketKey};
pub use tls::{CertificateFiles, TlsConfig};

use self::layers::Layers;
use crate::cli::args::ServeArgs;

/// Everything that the server can be told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `demo`: demo identity, sandbox provider, generated secrets and tokens. Default false; flag `--demo`.
    pub demo: bool,
    /// `[http]`: listeners, runtimes and limits of the transport.
    pub http: HttpConfig,
    /// `[tls]`: certificates of the listeners.
    pub tls: TlsConfig,
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
    /// `[queue]`: how jobs are tried again.
    pub queue: QueueConfig,
    /// `[notifications]`: who is told what happens to orders.
    pub notifications: NotificationsConfig,
    /// `[rate]`: how often one buyer, and one address, may ask.
    pub rate: RateConfig,
    /// `[guard]`: which rules stand in front of a sale.
    pub guard: GuardConfig,
    /// `[challenge]`: what suspicious visitors have to solve.
    pub challenge: ChallengeConfig,
    /// `[operations]`: who may use the operations listener.
    pub operations: OperationsConfig,
    /// `[secrets]`: files that hold keys.
    pub secrets: SecretsConfig,
    /// `[cache]`: what is kept of products and SKUs, written out.
    pub cache: CacheConfig,
    /// `[monitor]`: how closely the invariants are watched.
    pub monitor: MonitorConfig,
    /// `[log]`: what is written about the server's work.
    pub log: LogConfig,
}

/// A configuration, where its values came from, and what is wrong with it.
#[derive(Debug)]
pub struct Checked {
    config: Config,
    sources: BTreeMap<String, Source>,
    problems: Vec<String>,
}

/// All that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(crate) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Checked {
    /// Puts file, environment and flags over the defaults, and looks at everything but the files that are named in it.
    pub fn new(args: &ServeArgs, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut layers = Layers::new();
        let mut unread = None;
        if let Some(file) = &args.storage.config {
            match fs::read_to_string(file) {
                Ok(text) => layers.file(Some(file), &text),
                Err(error) => unread = Some(format!("--config {}: {error}", file.display())),
            }
        }
        layers.environment(environment);
        for (given, key, flag) in [
            (args.demo, "demo", "--demo"),
            (args.in_memory, "storage.in_memory", "--in-memory"),
            (args.shared_runtime, "http.shared_runtime", "--shared-runtime"),
        ] {
            if given {
                layers.flag(key, true, flag);
            }
        }
        if let Some(directory) = &args.storage.data {
            layers.flag("storage.directory", directory.to_string_lossy().into_owned(), "--data");
        }
        let (mut config, mut sources, mut problems) = layers.finish();
        problems.splice(0..0, unread);
        if let Some(directory) = &args.storage.data {
            // As it is: a path need not be UTF-8.
            config.storage.directory.clone_from(directory);
        }
        if let Some(demo) = sources.get("demo").filter(|_| config.demo).cloned() {
            for (on, key) in [
                (&mut config.identity.demo, "identity.demo"),
                (&mut config.payment.sandbox, "payment.sandbox"),
            ] {
                if !*on {
                    *on = true;
                    sources.insert(key.to_owned(), demo.clone());
                }
            }
        }
        problems.extend(config.problems());
        Self { config, sources, problems }
    }

    /// What is in force, whether or not something is wrong with it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds what is wrong with what the configuration names.
    #[must_use]
    pub fn with_problems(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// All problems at once, each with its key and what is allowed.
    pub fn accepted(self) -> Result<Config, ConfigErrors> {
        if self.problems.is_empty() { Ok(self.config) } else { Err(ConfigErrors(self.problems)) }
    }

    /// What is in force, key by key, with where it came from; secrets are only `set`.
    pub fn report(&self) -> String {
        report::report(&self.config, &self.sources)
    }
}

impl Config {
    /// Reads the file that `args` name, if any, and puts environment and flags over it.
    ///
    /// # Errors
    ///
    /// All problems at once, each with its key and what is allowed.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigErrors> {
        Checked::new(args, env::vars_os()).accepted()
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type, all at once.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::new();
        layers.file(None, text);
        let (config, _, problems) = layers.finish();
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.http.check(&mut problems);
        self.tls.check(&mut problems);
        self.storage.check(&mut problems);
        self.order.check(&mut problems);
        self.ticket.check(&mut problems);
        self.identity.check(&mut problems);
        self.ids.check(&mut problems);
        self.payment.check(&mut problems);
        self.queue.check(&mut problems);
        self.notifications.check(&mut problems);
        self.rate.check(&mut problems);
        self.guard.check(&mut problems);
        self.challenge.check(&mut problems);
        self.operations.check(&mut problems);
        self.secrets.check(&mut problems);
        self.cache.check(&mut problems);
        self.monitor.check(&mut problems);
        self.log.check(&mut problems);
        problems
    }
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
        for key in ["demo:", "http.body_bytes:", "http.speed:", "other:"] {
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
        let report = report::report(&config, &BTreeMap::new());
        assert!(
            report.contains("operations.tokens[0].token = \"set\"") && !report.contains("hidden"),
            "{report}"
        );
        for broken in
            ["token = \"hidden", "token = hidden", "token = \"hidden\" hidden", "token = [\"hidden\" 1]"]
        {
            let error = Config::parse(&format!("[http]\n{broken}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2: ") && !error.contains("hidden"), "{error}");
        }
    }
}
