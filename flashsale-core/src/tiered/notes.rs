//! Which lanes have something to pump.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    domain::ActivityId,
    ledger::{Bucket, Lane},
};

/// The gate's lanes of an activity that a round persists. It always follows the truth in all lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lanes {
    /// All of them.
    All,
    /// Only these.
    These(BTreeSet<Bucket>),
}

/// The lanes that this process changed, or has to look at again, oldest activity first.
#[derive(Debug, Default)]
pub(super) struct Notes {
    noted: Mutex<Noted>,
    any: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    activities: VecDeque<ActivityId>,
    lanes: HashMap<ActivityId, Lanes>,
}

impl Lanes {
    /// None: only the truth changed.
    pub(super) fn none() -> Self {
        Self::These(BTreeSet::new())
    }

    /// One lane.
    pub(super) fn one(bucket: Bucket) -> Self {
        Self::These([bucket].into())
    }

    /// The lanes of an activity with this many buckets.
    pub(super) fn of(&self, activity: ActivityId, buckets: Bucket) -> Vec<Lane> {
        let noted = |bucket: &Bucket| match self {
            Self::All => true,
            Self::These(these) => these.contains(bucket),
        };
        (0..buckets).filter(noted).map(|bucket| Lane { activity, bucket }).collect()
    }

    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::These(these), Self::These(more)) => these.extend(more),
            _ => *self = Self::All,
        }
    }
}

impl Notes {
    /// Adds lanes of an activity.
    pub(super) fn add(&self, activity: ActivityId, lanes: Lanes) {
        let mut noted = self.noted();
        if let Some(known) = noted.lanes.get_mut(&activity) {
            known.add(lanes);
        } else {
            noted.lanes.insert(activity, lanes);
            noted.activities.push_back(activity);
        }
        self.any.notify_one();
    }

    /// Takes what is noted for one activity that is free.
    pub(super) fn take(&self, is_free: impl Fn(ActivityId) -> bool) -> Option<(ActivityId, Lanes)> {
        let mut noted = self.noted();
        let index = noted.activities.iter().position(|activity| is_free(*activity))?;
        let activity = noted.activities.remove(index)?;
        Some((activity, noted.lanes.remove(&activity)?))
    }

    /// Waits until something was added since the last call.
    pub(super) async fn added(&self) {
        self.any.notified().await;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_an_activity_are_merged_and_the_oldest_is_taken_first() {
        let notes = Notes::default();
        let [first, second] = [1, 2].map(|number| ActivityId::new(number).unwrap());
        notes.add(second, Lanes::one(3));
        notes.add(first, Lanes::none());
        notes.add(second, Lanes::one(1));
        assert_eq!(notes.take(|_| true), Some((second, Lanes::These([1, 3].into()))));
        notes.add(second, Lanes::All);
        notes.add(second, Lanes::one(1));
        assert_eq!(notes.take(|activity| activity != first), Some((second, Lanes::All)));
        assert_eq!(notes.take(|_| true), Some((first, Lanes::none())));
        assert_eq!(notes.take(|_| true), None);
        assert_eq!(Lanes::These([1, 9].into()).of(first, 2), [Lane { activity: first, bucket: 1 }]);
        assert_eq!(Lanes::All.of(first, 2).len(), 2);
    }
}
