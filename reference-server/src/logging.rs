//! The log: plain text on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Sends the log to standard error; `FLASHSALE_LOG` filters it (`info` by default, as in `debug,hyper=warn`).
///
/// Never logged: tokens, tickets, receipts, signatures, bodies, user names. Types that hold a secret do not show it
/// in `Debug`.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("FLASHSALE_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}
