//! The numbers of what is kept in this process.

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
        let help = "What was asked of a cache: hits were answered at once, misses waited for a load.";
        page.counter("flashsale_cache_asked", help, with("answer", answer), count);
    }
    page.counter("flashsale_cache_loads", "Loads of a cache that began.", labels(), loads);
    for (reason, count) in [("failed", failures), ("stale", stale)] {
        let help = "Loads of a cache that were not kept: they failed, or were out of date when they ended.";
        page.counter("flashsale_cache_unkept", help, with("reason", reason), count);
    }
    let help = "Keys of a cache, those included of which is known that nothing has them.";
    page.gauge("flashsale_cache_keys", help, labels(), cache.len() as f64);
}
