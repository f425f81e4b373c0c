//! Numbers for monitors: `GET /metrics` of the operations listener.
//!
//! Whoever does work counts it in plain numbers of its own, without a registry and without names on the hot path. Here
//! they get names and labels, once per scrape. Every name is in `deploy/`: a board and alerts.

mod breakers;
mod cache;
mod jobs;
mod page;
mod process;
mod sale;
mod traffic;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

pub use page::{Exposition, Labels};

use crate::app::App;

/// What is asked for numbers at each scrape.
#[derive(Default)]
pub struct Metrics {
    sources: Mutex<Vec<Source>>,
}

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;

impl Metrics {
    /// Asks `source` for its numbers at every scrape from now on. It must not wait for anything.
    pub fn register(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Reads everything; waits a second for the ledger at most, and goes without it then.
    pub async fn read(&self, app: &App) -> Exposition {
        let mut page = Exposition::default();
        for source in &*self.sources.lock().unwrap_or_else(PoisonError::into_inner) {
            source(&mut page);
        }
        process::read(&mut page);
        breakers::read(&mut page, app);
        cache::read(&mut page, &app.product_documents);
        sale::read(&mut page, app).await;
        jobs::read(&mut page, app).await;
        page
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Microseconds in a second, for names that end with `_seconds`.
const MICROS: f64 = 1e6;

#[expect(clippy::cast_precision_loss, reason = "numbers of orders, units and jobs are far below 2^53")]
fn number(count: impl TryInto<i64>) -> f64 {
    count.try_into().map_or(f64::MAX, |count| count as f64)
}
