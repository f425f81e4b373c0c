//! Leases of worker ids.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::domain::Timestamp;

/// Whoever acquires a lease: 128 random bits, drawn once for each lease.
///
/// A store recognises by it who repeats a call after a lost reply, and who was superseded. Whoever
/// has released or lost a lease draws another id: a late message of the former lease must not look
/// like one of the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u128);

impl HolderId {
    /// Draws a random id.
    ///
    /// # Errors
    /// If the operating system provides no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HolderId({:x})", self.0)
    }
}

/// The exclusive right to generate ids of `worker` whose time is in `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The worker id.
    pub worker: u16,
    /// Who acquired it.
    pub holder: HolderId,
    /// The high-water mark before the grant: earlier holders only used times before it.
    pub from: Timestamp,
    /// The new high-water mark, stored durably before the lease is granted.
    pub until: Timestamp,
}

/// Grants worker ids. The suite `conformance::run_worker_lease` tests an implementation.
///
/// Each worker id has one high-water mark. It never drops below the end of a granted span, is
/// durable before `acquire` or `renew` return, and is where the next holder starts. So even two
/// processes that both believe they hold a worker id use disjoint spans of time. No method reads a
/// clock: all times are id times supplied by the caller.
///
/// # Contract
///
/// - **Held** is a worker id from its grant until its holder releases it or another one acquires it.
///   Another one can as soon as the lease has ended, or its holder is known to have died.
/// - **Only the holder** renews and releases. To a former holder the answer is [`LeaseError::Lost`],
///   whatever the times of its lease.
/// - **Repeats.** After [`LeaseError::Store`] or a dropped future it is unknown whether the call took
///   effect; after any other error it did not. A repeated `acquire` of the same holder answers the same lease, a
///   repeated `renew` extends it; a repeated `release` that answers [`LeaseError::Lost`] is done.
#[async_trait]
pub trait WorkerLease: Send + Sync + Debug {
    /// Acquires a worker id that is not held, and grants it `[from, until)`.
    ///
    /// A holder has at most one lease: if it has one already, that one is extended to `until` and
    /// returned. Whoever needs a second worker id is a second holder.
    ///
    /// Prefers a worker id whose mark is not after `now`, so that a restart after a crash need not
    /// wait until the clock has passed the crashed process's span; otherwise takes the lowest mark.
    /// If that is after `until`, the lease has `until = from` and is empty until renewed. Of equal
    /// ones, prefers a worker id that was released to one whose lease ended, as its holder may only
    /// be slow.
    ///
    /// # Errors
    /// [`LeaseError::NoWorker`] if all are held, [`LeaseError::Damaged`], [`LeaseError::Store`].
    async fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Extends a held lease to `until`, even if it has ended. A lease never gets shorter.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it is no longer held, [`LeaseError::Damaged`],
    /// [`LeaseError::Store`]. After an error the old lease stays valid until its end.
    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError>;

    /// Releases the worker id. The span from `used_until` on is unused and can be granted again.
    ///
    /// # Errors
    /// As [`WorkerLease::renew`]. The worker id is then free when the lease ends, at the latest.
    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError>;
}

/// What a store keeps of a worker id, and the rules by which it changes. A worker id that was never
/// used has the default state.
///
/// A store decides a call in one atomic step: it reads states, lets one of these methods change one, and
/// makes that durable before it answers.
///
/// ```
/// use std::collections::BTreeMap;
/// use flashsale_core::{domain::Timestamp, snowflake::{HolderId, WorkerState}};
///
/// let (holder, now, until) = (HolderId(1), Timestamp::from_millis(10), Timestamp::from_millis(20));
/// let mut states = BTreeMap::new();
/// let (worker, mut state) = WorkerState::choose(0..=1023, &states, holder, now)?;
/// let lease = state.grant(worker, holder, until);
/// states.insert(worker, state);
/// assert_eq!((lease.worker, lease.until), (0, until));
/// # Ok::<(), flashsale_core::snowflake::LeaseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    /// Who holds it.
    pub holder: Option<HolderId>,
    /// Where the lease of the holder starts.
    pub from: Timestamp,
    /// The high-water mark.
    pub until: Timestamp,
}

impl WorkerState {
    /// Chooses the worker id to grant: the one that the holder has, or else the one that
    /// [`WorkerLease::acquire`] prefers. Worker ids that `states` does not have were never used.
    ///
    /// # Errors
    /// [`LeaseError::NoWorker`] if all are held.
    pub fn choose(
        workers: RangeInclusive<u16>,
        states: &BTreeMap<u16, Self>,
        holder: HolderId,
        now: Timestamp,
    ) -> Result<(u16, Self), LeaseError> {
        let of = |worker: u16| (worker, states.get(&worker).copied().unwrap_or_default());
        let all = || workers.clone().map(of);
        let own = all().find(|(_, state)| state.holder == Some(holder));
        let free = || all().filter(|(_, state)| state.may_be_acquired(now));
        let best = own.or_else(|| free().min_by_key(|(worker, state)| (state.preference(now), *worker)));
        best.ok_or_else(|| {
            let retry_at = all().map(|(_, state)| state.until).min().unwrap_or(now);
            LeaseError::NoWorker { first: *workers.start(), last: *workers.end(), retry_at }
        })
    }

    /// Returns whether nobody holds it, or the lease has ended.
    pub(crate) fn may_be_acquired(self, now: Timestamp) -> bool {
        self.holder.is_none() || self.until <= now
    }

    /// The order in which `acquire` prefers worker ids; the lowest is taken.
    pub(crate) fn preference(self, now: Timestamp) -> (Timestamp, bool) {
        (self.until.max(now), self.holder.is_some())
    }

    /// Grants `worker` to a holder, or extends the lease that this holder has.
    pub fn grant(&mut self, worker: u16, holder: HolderId, until: Timestamp) -> Lease {
        if self.holder != Some(holder) {
            let from = if mutant!("lease-span-granted-twice") { self.from } else { self.until };
            *self = Self { holder: Some(holder), from, ..*self };
        }
        self.until = self.until.max(until);
        Lease { worker, holder, from: self.from, until: self.until }
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it is no longer held.
    pub fn renew(&mut self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        self.check_holder(lease)?;
        Ok(self.grant(lease.worker, lease.holder, until))
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it is no longer held.
    pub fn release(&mut self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        self.check_holder(lease)?;
        *self = Self { holder: None, until: used_until.max(self.from).min(self.until), ..*self };
        Ok(())
    }

    fn check_holder(self, lease: Lease) -> Result<(), LeaseError> {
        let is_held = match self.holder {
            Some(holder) => holder == lease.holder || mutant!("lease-token-ignored"),
            None => false,
        };
        if is_held { Ok(()) } else { Err(LeaseError::Lost { worker: lease.worker }) }
    }
}

/// Why a lease could not be acquired or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Every worker id of the range is held.
    #[error(
        "every worker id from {first} to {last} is in use, one of them until {retry_at:?}: retry then, stop a process \
         that shares the range, or widen it"
    )]
    NoWorker {
        /// The first worker id of the range.
        first: u16,
        /// The last worker id of the range.
        last: u16,
        /// When the first of their leases ends, unless it is renewed.
        retry_at: Timestamp,
    },
    /// The caller does not hold the lease, or no longer.
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
    /// The storage of the leases failed, or gave no answer. The call may or may not have taken effect;
    /// repeat it with the same holder or lease.
    #[error("{action}: {source}")]
    Store {
        /// What was attempted, and where.
        action: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LeaseError {
    /// Returns whether it is certain that nothing was changed.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Store { .. })
    }

    pub(super) fn no_randomness(error: getrandom::Error) -> Self {
        Self::Store { action: "cannot draw a holder id".to_owned(), source: error.to_string().into() }
    }
}

/// Leases in memory, for a deployment of one process without a disk, and for tests.
#[derive(Debug)]
pub struct InMemoryLease {
    workers: RangeInclusive<u16>,
    states: Mutex<BTreeMap<u16, WorkerState>>,
}

impl InMemoryLease {
    /// Creates leases of the ids in `workers`.
    pub fn new(workers: RangeInclusive<u16>) -> Self {
        Self { workers, states: Mutex::default() }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<u16, WorkerState>> {
        // A state is a single value, so a panic cannot leave it half-written.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WorkerLease for InMemoryLease {
    async fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let mut states = self.states();
        let (worker, mut state) = WorkerState::choose(self.workers.clone(), &states, holder, now)?;
        let lease = state.grant(worker, holder, until);
        states.insert(worker, state);
        Ok(lease)
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        self.states().entry(lease.worker).or_default().renew(lease, until)
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        self.states().entry(lease.worker).or_default().release(lease, used_until)
    }
}
