//! Metrics: `GET /metrics` of the operations listener.
//!
//! Components count with plain atomics, so the hot path touches no registry. This module adds names
//! and labels, once per scrape. The dashboard and the alerts in `deploy/` use every name.

mod breakers;
mod cache;
mod clock;
mod exposition;
mod jobs;
mod jwt;
mod process;
mod registry;
mod sale;
mod traffic;

pub use exposition::{Exposition, Labels};
pub use registry::Metrics;

use crate::app::App;

/// Reads all metrics. Waits at most 1 s each for ledger and queues, and then omits theirs.
pub async fn read(app: &App) -> Exposition {
    let mut page = Exposition::default();
    app.metrics.read(&mut page);
    process::read(&mut page);
    clock::read(&mut page, app);
    breakers::read(&mut page, app);
    jwt::read(&mut page, app);
    cache::read(&mut page, app.storefront.products());
    sale::read(&mut page, app).await;
    jobs::read(&mut page, app).await;
    page
}

/// Microseconds per second, for histograms in seconds.
const MICROS: f64 = 1e6;

#[expect(clippy::cast_precision_loss, reason = "numbers of orders, units and jobs are far below 2^53")]
fn number(count: impl TryInto<i64>) -> f64 {
    count.try_into().map_or(f64::MAX, |count| count as f64)
}
