//! Logging to standard error, as readable text or as one JSON object per line.
//!
//! Never logged: tokens, tickets, receipts, signatures, bodies, user names. `Debug` hides secrets.

mod line;
mod sampling;

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer as _, fmt::MakeWriter, layer::SubscriberExt as _};

use self::{line::Line, sampling::Sampling};
use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error.
///
/// # Panics
/// If logging was already started.
pub fn start(config: &LogConfig) {
    let ansi = io::stderr().is_terminal();
    tracing::subscriber::set_global_default(subscriber(config, io::stderr, ansi))
        .expect("logging is started once");
}

/// Starts logging for a command, with the filter of `FLASHSALE_LOG` and default settings otherwise.
///
/// # Panics
/// If logging was already started.
pub fn start_for_command() {
    let mut config = LogConfig::default();
    if let Ok(filter) = env::var("FLASHSALE_LOG") {
        config.filter = filter;
    }
    start(&config);
}

/// Builds a subscriber that logs to `writer`, with colours if `ansi` is set.
pub fn subscriber<W>(config: &LogConfig, writer: W, ansi: bool) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse_lossy(&config.filter);
    let sampling = Sampling::new(config.lines_per_second);
    let line = Line::new(config.format, ansi && config.format == LogFormat::Text, sampling.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).event_format(line).with_filter(sampling);
    tracing_subscriber::registry().with(filter).with(lines)
}
