//! How many lines one place in the code may write: a fault that every request meets must not fill the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// Lets so many lines of each place through in a second, and counts the rest.
///
/// Clones share what they have counted.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    /// 0 is no limit.
    per_second: u32,
    /// As many as there are places that log.
    places: Arc<Mutex<HashMap<Identifier, CallSite>>>,
}

#[derive(Debug)]
struct CallSite {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Sampling {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, places: Arc::default() }
    }

    /// Whether a line of this place may be written now.
    fn admits(&self, place: Identifier, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(CallSite { since: now, lines: 0, suppressed: 0 });
        if now.saturating_duration_since(place.since) >= Duration::from_secs(1) {
            (place.since, place.lines) = (now, 0);
        }
        if place.lines >= self.per_second {
            place.suppressed += 1;
            return false;
        }
        place.lines += 1;
        true
    }

    /// How many lines of this place were left out since the last one.
    pub(super) fn take_suppressed(&self, place: &Identifier) -> u64 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get_mut(place).map_or(0, |place| std::mem::take(&mut place.suppressed))
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
    fn each_place_has_its_lines_in_each_second_and_the_rest_is_counted() {
        let (one, other) = (Identifier(&ONE), Identifier(&OTHER));
        let sampling = Sampling::new(2);
        let start = Instant::now();
        let admitted = |at: u64| sampling.admits(Identifier(&ONE), start + Duration::from_millis(at));
        assert!(admitted(0) && admitted(1) && !admitted(2) && !admitted(999));
        assert!(sampling.admits(other, start), "another place has lines of its own");
        assert_eq!(sampling.take_suppressed(&one), 2);
        assert_eq!(sampling.take_suppressed(&one), 0);
        assert!(admitted(1_000) && admitted(1_001) && !admitted(1_002));
        assert!((0..100).all(|_| Sampling::new(0).admits(Identifier(&ONE), start)));
        assert_eq!(ONE.metadata().name(), "a place");
    }
}
