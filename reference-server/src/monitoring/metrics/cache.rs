//! Metrics of the product and SKU caches.

use std::{hash::Hash, sync::atomic::Ordering};

use flashsale_core::cache::Cache;

use super::Exposition;
use crate::storefront::products::ProductDocuments;

pub(super) fn read(page: &mut Exposition, product_documents: &ProductDocuments) {
    show(page, "products", product_documents.products());
    show(page, "skus", product_documents.skus());
}

#[expect(clippy::cast_precision_loss, reason = "numbers of keys are far below 2^53")]
fn show<K: Eq + Hash + Clone, V: Clone>(page: &mut Exposition, name: &str, cache: &Cache<K, V>) {
    let labels = || vec![("cache", name.to_owned())];
    let with = |label, word: &str| labels().into_iter().chain([(label, word.to_owned())]).collect();
    let numbers = cache.metrics();
    let [hits, misses, loads, failures, stale] =
        [&numbers.hits, &numbers.misses, &numbers.loads, &numbers.failures, &numbers.stale]
            .map(|number| number.load(Ordering::Relaxed));
    for (answer, count) in [("hit", hits), ("miss", misses)] {
        let help = "Lookups in a cache; a hit is answered at once, a miss waits for a load.";
        page.counter("flashsale_cache_asked", help, with("answer", answer), count);
    }
    page.counter("flashsale_cache_loads", "Loads that a cache started.", labels(), loads);
    for (reason, count) in [("failed", failures), ("stale", stale)] {
        let help = "Loads that were not cached because they failed or were stale when they finished.";
        page.counter("flashsale_cache_unkept", help, with("reason", reason), count);
    }
    let help = "Keys in a cache, including ids that are known not to exist.";
    page.gauge("flashsale_cache_keys", help, labels(), cache.len() as f64);
}
