//! Numbers for monitors: `GET /metrics` of the operations listener.
//!
//! Whoever does work counts it in plain numbers of its own, without a registry and without names on the hot path. Here
//! they get names and labels, once per scrape. Every name is in `deploy/`: a board and alerts.

mod breakers;
mod cache;
mod exposition;
mod jobs;
mod process;
mod registry;
mod sale;
mod traffic;

pub use exposition::{Exposition, Labels};
pub use registry::Metrics;

use crate::app::App;

/// Reads everything; waits a second for the ledger at most, and goes without it then.
pub async fn read(app: &App) -> Exposition {
    let mut page = Exposition::default();
    app.metrics.read(&mut page);
    process::read(&mut page);
    breakers::read(&mut page, app);
    cache::read(&mut page, app.storefront.products());
    sale::read(&mut page, app).await;
    jobs::read(&mut page, app).await;
    page
}

/// Microseconds in a second, for names that end with `_seconds`.
const MICROS: f64 = 1e6;

#[expect(clippy::cast_precision_loss, reason = "numbers of orders, units and jobs are far below 2^53")]
fn number(count: impl TryInto<i64>) -> f64 {
    count.try_into().map_or(f64::MAX, |count| count as f64)
}
