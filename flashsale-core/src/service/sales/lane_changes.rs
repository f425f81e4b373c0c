//! Which lanes changed, for jobs that act on changes instead of polling every lane.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::ledger::Lane;

/// Tells each follower which lanes this process changed.
///
/// A change is noted after the ledger has answered. Whoever takes a lane from the set and then reads
/// it sees the change, or finds the lane in the set again.
#[derive(Debug, Default)]
pub(crate) struct LaneChanges {
    followers: ArcSwap<Vec<Arc<ChangedLanes>>>,
}

/// The lanes that changed since one follower last took them.
///
/// Other processes change lanes too, and a call may be lost. So [`Maintenance`] adds each lane from
/// time to time, whether it changed or not.
///
/// [`Maintenance`]: crate::service::Maintenance
#[derive(Debug, Default)]
pub struct ChangedLanes {
    lanes: Mutex<BTreeSet<Lane>>,
    any: Notify,
}

impl LaneChanges {
    /// Adds a follower, which learns of all changes from now on.
    pub(crate) fn follow(&self) -> Arc<ChangedLanes> {
        let follower = Arc::<ChangedLanes>::default();
        self.followers.rcu(|followers| {
            // Those that nobody reads any more are only in this list.
            let live = followers.iter().filter(|follower| Arc::strong_count(follower) > 1);
            live.chain([&follower]).cloned().collect::<Vec<_>>()
        });
        follower
    }

    /// Notes that a lane changed, or may have.
    pub(crate) fn note(&self, lane: Lane) {
        for follower in self.followers.load().iter() {
            let mut lanes = follower.lanes();
            if lanes.is_empty() {
                follower.any.notify_one();
            }
            lanes.insert(lane);
        }
    }
}

impl ChangedLanes {
    /// Takes the lanes, so that the next call returns only those that change later.
    pub fn take(&self) -> BTreeSet<Lane> {
        mem::take(&mut *self.lanes())
    }

    /// Waits until a lane has changed since the last [`ChangedLanes::take`]. One caller at a time.
    pub async fn changed(&self) {
        while self.lanes().is_empty() {
            self.any.notified().await;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeSet<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ActivityId;

    #[test]
    fn each_follower_learns_of_each_change_once() {
        let lane = |activity| Lane { activity: ActivityId::new(activity).unwrap(), bucket: 0 };
        let changes = LaneChanges::default();
        changes.note(lane(1));
        let (first, second) = (changes.follow(), changes.follow());
        changes.note(lane(2));
        changes.note(lane(2));
        assert_eq!(first.take(), BTreeSet::from([lane(2)]));
        assert_eq!(first.take(), BTreeSet::new());
        drop(first);
        let third = changes.follow();
        changes.note(lane(3));
        assert_eq!(second.take(), BTreeSet::from([lane(2), lane(3)]));
        assert_eq!(third.take(), BTreeSet::from([lane(3)]));
        assert_eq!(changes.followers.load().len(), 2, "nobody reads the first one any more");
    }

    #[tokio::test]
    async fn a_change_wakes_who_waits_for_it() {
        let lane = Lane { activity: ActivityId::new(1).unwrap(), bucket: 0 };
        let changes = LaneChanges::default();
        let follower = changes.follow();
        for _ in 0..2 {
            let waits = tokio::spawn({
                let follower = Arc::clone(&follower);
                async move { follower.changed().await }
            });
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            changes.note(lane);
            waits.await.unwrap();
            follower.changed().await;
            assert_eq!(follower.take(), BTreeSet::from([lane]));
        }
    }
}
