//! A configuration assembled from its layers, with its problems.

use std::{collections::BTreeMap, env, ffi::OsString, fmt, fs};

use super::{Config, Source, layers::Layers, report};
use crate::cli::args::ServeArgs;

/// A configuration, the source of each value, and all problems.
#[derive(Debug)]
pub struct Checked {
    config: Config,
    sources: BTreeMap<String, Source>,
    problems: Vec<String>,
}

/// All problems of a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(crate) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Checked {
    /// Merges the layers and validates all values, but not the files that they name.
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
            // Take the path as it is: it need not be UTF-8.
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

    /// The effective configuration, valid or not.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds problems of the files that the configuration names.
    #[must_use]
    pub fn with_problems(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Returns the configuration if it has no problems.
    ///
    /// # Errors
    /// All problems at once, each with its key and the allowed values.
    pub fn accepted(self) -> Result<Config, ConfigErrors> {
        if self.problems.is_empty() { Ok(self.config) } else { Err(ConfigErrors(self.problems)) }
    }

    /// Lists the effective value and the source of each key. Secrets show only as `set`.
    pub fn report(&self) -> String {
        report::report(&self.config, &self.sources)
    }
}

impl Config {
    /// Loads the configuration from file, environment and flags. Does not check the files it names.
    ///
    /// # Errors
    /// All problems at once, each with its key and the allowed values.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigErrors> {
        Checked::new(args, env::vars_os()).accepted()
    }

    /// Parses the text of a configuration file, without checking ranges.
    ///
    /// # Errors
    /// Unknown keys and values of the wrong type, all at once.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::new();
        layers.file(None, text);
        let (config, _, problems) = layers.finish();
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
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
