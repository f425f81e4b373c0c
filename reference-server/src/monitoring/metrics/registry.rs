//! The registry of metric sources.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use super::exposition::Exposition;

/// The registered metric sources, read at each scrape.
#[derive(Default)]
pub struct Metrics {
    sources: Mutex<Vec<Source>>,
}

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;

impl Metrics {
    /// Registers a source that is called at every scrape. It must not block.
    pub fn register(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    pub(super) fn read(&self, page: &mut Exposition) {
        for source in &*self.sources.lock().unwrap_or_else(PoisonError::into_inner) {
            source(page);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
