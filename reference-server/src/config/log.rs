//! `[log]`: what is written about the server's work.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What is written about the server's work, on standard error; table `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `log.filter`: what is logged, as in `info` or `debug,hyper=warn`. Default info; variable FLASHSALE_LOG.
    pub filter: String,
    /// `log.format`: `text` for people, `json` for collectors. Default text.
    pub format: LogFormat,
    /// `log.lines_per_second`: most lines of one place in the code in a second; more are counted, and the number is told
    /// with the next line. 0 is no limit. Default 20.
    pub lines_per_second: u32,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text, lines_per_second: 20 }
    }
}

impl LogConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if let Err(error) = EnvFilter::builder().parse(&self.filter) {
            problems.push(format!(
                "log.filter: {error}; give a level, or targets with levels as in info,hyper=warn"
            ));
        }
        super::range::within(problems, "log.lines_per_second", self.lines_per_second, 0..=1_000_000);
    }
}
