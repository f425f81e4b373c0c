//! `[log]`: logging to standard error.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Logging to standard error; table `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `log.filter`, or FLASHSALE_LOG: levels, such as `info` or `debug,hyper=warn`. Default info.
    pub filter: String,
    /// `log.format`: `text` for people or `json` for log collectors. Default text.
    pub format: LogFormat,
    /// `log.lines_per_second`: maximum lines per second from one place in the code. The rest is
    /// counted and reported as `suppressed` with the next line. 0 means no limit. Default 20.
    pub lines_per_second: u32,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Readable text.
    #[default]
    Text,
    /// One JSON object per line.
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
                "log.filter: {error}; give a level, or targets with levels such as info,hyper=warn"
            ));
        }
        super::range::within(problems, "log.lines_per_second", self.lines_per_second, 0..=1_000_000);
    }
}
