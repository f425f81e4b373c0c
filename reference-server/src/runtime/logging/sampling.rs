//! Limits log lines per call site, so that an error in every request does not fill the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// Limits lines per call site and second, and counts the rest. Clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    /// 0 means no limit.
    per_second: u32,
    /// Bounded by the number of call sites in the program.
    call_sites: Arc<Mutex<HashMap<Identifier, CallSite>>>,
}

#[derive(Debug)]
struct CallSite {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Sampling {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, call_sites: Arc::default() }
    }

    /// Returns whether this call site may log a line now.
    fn admits(&self, id: Identifier, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let mut call_sites = self.call_sites.lock().unwrap_or_else(PoisonError::into_inner);
        let site = call_sites.entry(id).or_insert(CallSite { since: now, lines: 0, suppressed: 0 });
        if now.saturating_duration_since(site.since) >= Duration::from_secs(1) {
            (site.since, site.lines) = (now, 0);
        }
        if site.lines >= self.per_second {
            site.suppressed += 1;
            return false;
        }
        site.lines += 1;
        true
    }

    /// Returns and resets how many lines of this call site were suppressed since its last line.
    pub(super) fn take_suppressed(&self, id: &Identifier) -> u64 {
        let mut call_sites = self.call_sites.lock().unwrap_or_else(PoisonError::into_inner);
        call_sites.get_mut(id).map_or(0, |site| std::mem::take(&mut site.suppressed))
    }
}

impl<S> Filter<S> for Sampling {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event.metadata().callsite(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite as _, callsite::DefaultCallsite};

    use super::*;

    static ONE: DefaultCallsite = DefaultCallsite::new(&METADATA);
    static OTHER: DefaultCallsite = DefaultCallsite::new(&METADATA);
    static METADATA: Metadata<'static> = tracing::metadata! {
        name: "a place", target: "tests", level: tracing::Level::WARN, fields: &[], callsite: &ONE,
        kind: tracing::metadata::Kind::EVENT
    };

    #[test]
    fn lines_are_limited_per_call_site_and_second_and_the_rest_is_counted() {
        let (one, other) = (Identifier(&ONE), Identifier(&OTHER));
        let sampling = Sampling::new(2);
        let start = Instant::now();
        // One identifier: two made of the same call site in two places can differ.
        let admitted = |at: u64| sampling.admits(one.clone(), start + Duration::from_millis(at));
        assert!(admitted(0) && admitted(1) && !admitted(2) && !admitted(999));
        assert!(sampling.admits(other, start), "each call site has its own budget");
        assert_eq!(sampling.take_suppressed(&one), 2);
        assert_eq!(sampling.take_suppressed(&one), 0);
        assert!(admitted(1_000) && admitted(1_001) && !admitted(1_002));
        assert!((0..100).all(|_| Sampling::new(0).admits(Identifier(&ONE), start)));
        assert_eq!(ONE.metadata().name(), "a place");
    }
}
