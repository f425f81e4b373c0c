//! Who may use which worker id, and for which span of id time.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::domain::Timestamp;

/// A grant: its holder alone may make ids of `worker` whose time is in `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The worker id.
    pub worker: u16,
    /// The high-water mark found: earlier holders may have made ids before this moment.
    pub from: Timestamp,
    /// The high-water mark left: durably kept before the lease is handed out.
    pub until: Timestamp,
}

/// Grants worker ids.
///
/// Uniqueness of ids rests on one rule: for each worker id there is one high-water mark that never goes below the end of
/// a span that was granted; it is durable before `acquire` or `renew` return, and the next holder starts there. So two processes that both believe
/// that they hold a worker id have disjoint spans of time. No method reads a clock: times are the caller's id time.
///
/// Dropping a future of any method may leave its step done or not done; the same call can be repeated.
#[async_trait]
pub trait WorkerLease: Send + Sync + Debug {
    /// Takes a worker id that nobody holds and grants it `[from, until)`.
    ///
    /// A worker id whose mark is not after `now` is preferred, so that a process that starts after a crash need not wait until the clock
    /// has passed the span of the crashed one; where there is none, the one with the lowest mark.
    /// If its mark is after `until`, the lease is granted with `until = from`: it is empty until renewed.
    ///
    /// # Errors
    /// [`LeaseError::NoWorker`] if all are held, [`LeaseError::Damaged`], [`LeaseError::Store`].
    async fn acquire(&self, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Extends a held lease to `until`; a lease never becomes shorter.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it is not held any more, [`LeaseError::Damaged`], [`LeaseError::Store`]. After an error
    /// the old lease is still good until its end.
    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Gives the worker id back. `used_until` is not before the time of any id made, so that the rest of the span can be granted again.
    ///
    /// # Errors
    /// As [`WorkerLease::renew`]; the worker id is then given back with its mark where it was.
    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError>;
}

/// Why a lease could not be had or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Every worker id of the range is held.
    #[error(
        "every worker id from {first} to {last} is held: stop a process that shares them, or widen the range"
    )]
    NoWorker {
        /// The first worker id of the range.
        first: u16,
        /// The last one.
        last: u16,
    },
    /// The lease is not held by the caller any more.
    #[error("the lease of worker id {worker} is not held here any more: start again to take another one")]
    Lost {
        /// The worker id.
        worker: u16,
    },
    /// What was kept about a worker id cannot be trusted.
    #[error(
        "{}: {reason}. Ids of this worker id may have been made up to an unknown time. Move the file away, and start \
         again only when the clock is later than the newest id in use; or configure a range without this worker id",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The place where leases are kept failed. A retry may help.
    #[error("{action}: {source}")]
    Store {
        /// What was tried, and where.
        action: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Leases that end with the process: for an in-memory deployment of one process, and for tests.
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
    /// Leases of the worker ids in `workers`.
    pub fn new(workers: RangeInclusive<u16>) -> Self {
        Self { workers, marks: Mutex::default() }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<u16, Mark>> {
        // A mark is one value: a panic elsewhere cannot have left it half-written.
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
