//! Leases of worker ids.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::domain::Timestamp;

/// The exclusive right to generate ids of `worker` whose time is in `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The worker id.
    pub worker: u16,
    /// The high-water mark before the grant: earlier holders only used times before it.
    pub from: Timestamp,
    /// The new high-water mark, stored durably before the lease is granted.
    pub until: Timestamp,
}

/// Grants worker ids.
///
/// Each worker id has one high-water mark. It never drops below the end of a granted span, is
/// durable before `acquire` or `renew` return, and is where the next holder starts. So even two
/// processes that both believe they hold a worker id use disjoint spans of time. No method reads a
/// clock: all times are id times supplied by the caller. After a dropped future, it is unknown
/// whether the call took effect; calls can be repeated.
#[async_trait]
pub trait WorkerLease: Send + Sync + Debug {
    /// Acquires a free worker id and grants it `[from, until)`.
    ///
    /// Prefers a worker id whose mark is not after `now`, so that a restart after a crash need not
    /// wait until the clock has passed the crashed process's span; otherwise takes the lowest mark.
    /// If that is after `until`, the lease has `until = from` and is empty until renewed.
    ///
    /// # Errors
    /// [`LeaseError::NoWorker`] if all are held, [`LeaseError::Damaged`], [`LeaseError::Store`].
    async fn acquire(&self, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Extends a held lease to `until`. A lease never gets shorter.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it is no longer held, [`LeaseError::Damaged`],
    /// [`LeaseError::Store`]. After an error the old lease stays valid until its end.
    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Releases the worker id. The span from `used_until` on is unused and can be granted again.
    ///
    /// # Errors
    /// As [`WorkerLease::renew`]. The worker id is then released with its old mark.
    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError>;
}

/// Why a lease could not be acquired or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Every worker id of the range is held.
    #[error(
        "every worker id from {first} to {last} is in use: stop a process that shares the range, or widen it"
    )]
    NoWorker {
        /// The first worker id of the range.
        first: u16,
        /// The last worker id of the range.
        last: u16,
    },
    /// The caller no longer holds the lease.
    #[error("the lease of worker id {worker} was lost: restart the process to acquire another one")]
    Lost {
        /// The worker id.
        worker: u16,
    },
    /// The stored data of a worker id is invalid.
    #[error(
        "{}: {reason}. This worker id may have made ids up to an unknown time. Move the file away, and restart \
         only when the clock is past the newest id in use; or configure a range without this worker id",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The storage of the leases failed. A retry may help.
    #[error("{action}: {source}")]
    Store {
        /// What was attempted, and where.
        action: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Leases in memory, for a deployment of one process without a disk, and for tests.
#[derive(Debug)]
pub struct InMemoryLease {
    workers: RangeInclusive<u16>,
    marks: Mutex<BTreeMap<u16, Mark>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    until: Timestamp,
    held: bool,
}

impl InMemoryLease {
    /// Creates leases of the ids in `workers`.
    pub fn new(workers: RangeInclusive<u16>) -> Self {
        Self { workers, marks: Mutex::default() }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<u16, Mark>> {
        // A mark is a single value, so a panic cannot leave it half-written.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WorkerLease for InMemoryLease {
    async fn acquire(&self, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let mut marks = self.marks();
        let (mark, worker) = self
            .workers
            .clone()
            .map(|worker| (marks.get(&worker).copied().unwrap_or_default(), worker))
            .filter(|(mark, _)| !mark.held)
            .min_by_key(|(mark, worker)| (mark.until.max(now), *worker))
            .ok_or(LeaseError::NoWorker { first: *self.workers.start(), last: *self.workers.end() })?;
        let lease = Lease { worker, from: mark.until, until: until.max(mark.until) };
        marks.insert(worker, Mark { until: lease.until, held: true });
        Ok(lease)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        match self.marks().get_mut(&lease.worker) {
            Some(mark) if mark.held => {
                mark.until = mark.until.max(until);
                Ok(Lease { until: mark.until, ..lease })
            }
            _ => Err(LeaseError::Lost { worker: lease.worker }),
        }
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        match self.marks().get_mut(&lease.worker) {
            Some(mark) if mark.held => {
                *mark = Mark { until: used_until.max(lease.from).min(mark.until), held: false };
                Ok(())
            }
            _ => Err(LeaseError::Lost { worker: lease.worker }),
        }
    }
}
