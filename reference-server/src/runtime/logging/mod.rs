//! The log, on standard error: text for people or one JSON object for each line.
//!
//! Never logged: tokens, tickets, receipts, signatures, bodies, user names. Types that hold a secret do not show it in
//! `Debug`.

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

/// Sends the log of this process to standard error from now on.
///
/// # Panics
///
/// If the process has a log already.
pub fn start(config: &LogConfig) {
    let ansi = io::stderr().is_terminal();
    tracing::subscriber::set_global_default(subscriber(config, io::stderr, ansi))
        .expect("a process starts its log once");
}

/// Sends the log of a command that reads no configuration for it to standard error; `FLASHSALE_LOG` filters it.
///
/// # Panics
///
/// If the process has a log already.
pub fn start_for_command() {
    let mut config = LogConfig::default();
    if let Ok(filter) = env::var("FLASHSALE_LOG") {
        config.filter = filter;
    }
    start(&config);
}

/// A log that goes to `writer`; `ansi` for colours.
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
