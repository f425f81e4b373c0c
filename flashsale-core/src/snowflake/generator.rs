//! The generator: one atomic number that only grows.

use std::{
    iter::FusedIterator,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{Layout, Lease, LeaseError, WorkerLease};
use crate::domain::{Clock, Invalid, OrderId, PaymentId, Timestamp};

/// How ids are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bits of an id. Default: 41 + 10 + 12 since 2024-01-01.
    pub layout: Layout,
    /// How far the time in ids may run ahead of the wall clock, which is also how far the wall clock may step back
    /// unnoticed. Default: 1 s.
    pub ahead: Duration,
    /// How long a lease lasts; [`keep`](super::keep) renews it after a third of that. Default: 10 s.
    pub term: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: Layout::default(), ahead: Duration::from_secs(1), term: Duration::from_secs(10) }
    }
}

/// A number that no other generator of the deployment makes, in `1..=i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl From<Id> for OrderId {
    fn from(id: Id) -> Self {
        Self::new(id.0).expect("a generator starts at 1 and a layout has at most 63 bits")
    }
}

impl From<Id> for PaymentId {
    fn from(id: Id) -> Self {
        Self::new(id.0).expect("a generator starts at 1 and a layout has at most 63 bits")
    }
}

/// Makes ids, each greater than all that it made before.
///
/// One generator is shared by all threads of a process; `next` and `take` are one atomic step each, take no lock and never wait.
#[derive(Debug)]
pub struct Generator {
    /// The next position, see [`Layout::position`].
    next: Alone<AtomicU64>,
    /// The position at which the lease ends.
    until: AtomicU64,
    /// How many positions from the start of the present millisecond may be used.
    room: u64,
    layout: Layout,
    worker: u16,
    clock: Arc<dyn Clock>,
    from: Timestamp,
    ahead: Duration,
    term: Duration,
    stopped: Notify,
}

/// A value on a cache line of its own: threads that only read the other fields need not wait for those that change it.
/// 128 bytes, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<T>(T);

/// Why there is no id at this moment. No id was used up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The lease has ended and was not renewed, or the generator was closed.
    #[error(
        "the lease of worker id {worker} ended at {until:?}: no ids until it is renewed; see why the renewal fails"
    )]
    LeaseEnded {
        /// The worker id.
        worker: u16,
        /// The end of the lease.
        until: Timestamp,
    },
    /// The ids would run ahead of the wall clock by more than allowed: too many were asked for, or the clock was set back.
    #[error(
        "ids are {ahead_ms} ms ahead of the clock, at most {allowed_ms} are allowed: repeat in {} ms. If the clock was \
         set back, starting the process again takes another worker id at once",
        wait.as_millis()
    )]
    Ahead {
        /// When a repeat succeeds, if the clock runs on and nobody else asks.
        wait: Duration,
        /// How far the last id would be ahead of the clock, in milliseconds.
        ahead_ms: u64,
        /// How far it may be.
        allowed_ms: u64,
    },
    /// More ids in one step than the generator may ever be ahead.
    #[error("{asked} ids in one step, at most {most} are possible: take them in several steps")]
    TooMany {
        /// How many were asked for.
        asked: u32,
        /// The most that one step can take.
        most: u64,
    },
    /// The wall clock shows a time before the layout's epoch.
    #[error("the clock shows {now:?}, before the epoch of ids, {epoch:?}: set the clock")]
    BeforeEpoch {
        /// What the clock shows.
        now: Timestamp,
        /// The epoch of the layout.
        epoch: Timestamp,
    },
    /// The layout has no bits for a time as late as this.
    #[error("the layout of ids ends at {end:?}: the clock is wrong, or the layout needs more bits of time")]
    LayoutEnded {
        /// The first moment that does not fit.
        end: Timestamp,
    },
}

/// Why a generator could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The lease's worker id does not fit the layout.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Generator {
    /// Takes a worker id and starts a generator with it; spawn [`keep`](super::keep) to renew the lease.
    ///
    /// # Errors
    /// If there is no lease to be had, or its worker id does not fit the layout.
    pub async fn acquire(
        leases: &dyn WorkerLease,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let now = clock.now();
        let lease = leases.acquire(now, now.after(settings.term).after(settings.ahead)).await?;
        Ok(Self::new(settings, lease, clock)?)
    }

    /// A generator that makes ids within `lease`.
    ///
    /// # Errors
    /// If the worker id does not fit the layout.
    pub fn new(settings: &Settings, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        let layout = settings.layout;
        if lease.worker > layout.last_worker() {
            return Err(Invalid::new(
                "worker",
                format!(
                    "worker id {} does not fit the layout, the last one is {}",
                    lease.worker,
                    layout.last_worker()
                ),
            ));
        }
        // Position 0 of worker 0 would be the id 0, which is none: the first millisecond stays unused.
        let first = layout.position(lease.from).unwrap_or(0).max(layout.per_tick());
        let ahead = layout.position(layout.epoch().after(settings.ahead)).unwrap_or(layout.end());
        Ok(Self {
            next: Alone(AtomicU64::new(first)),
            until: AtomicU64::new(layout.position(lease.until).unwrap_or(0)),
            room: ahead.saturating_add(layout.per_tick()),
            layout,
            worker: lease.worker,
            clock,
            from: lease.from,
            ahead: settings.ahead,
            term: settings.term,
            stopped: Notify::new(),
        })
    }

    /// The next id.
    ///
    /// # Errors
    /// See [`IdError`].
    #[inline]
    pub fn next(&self) -> Result<Id, IdError> {
        self.claim(1).map(|position| Id(self.layout.id(position, self.worker)))
    }

    /// The next `count` ids in one step: all or none.
    ///
    /// # Errors
    /// See [`IdError`].
    #[inline]
    pub fn take(&self, count: u32) -> Result<Ids, IdError> {
        let start = if count == 0 { 0 } else { self.claim(count)? };
        Ok(Ids { next: start, end: start + u64::from(count), layout: self.layout, worker: self.worker })
    }

    /// The worker id in the generator's ids.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// The lease as it stands.
    pub fn lease(&self) -> Lease {
        let until = self.layout.time(self.until.load(Ordering::Relaxed));
        Lease { worker: self.worker, from: self.from, until }
    }

    /// Goes on with a renewed lease; one of another worker id, or a shorter one, changes nothing.
    pub fn extend(&self, renewed: Lease) {
        if renewed.worker == self.worker {
            self.until.fetch_max(self.layout.position(renewed.until).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Stops for good, and says from which moment on this generator has made no id: what [`WorkerLease::release`] wants to know.
    pub fn close(&self) -> Timestamp {
        // Everybody that is about to claim holds the old value, fails to exchange it, and then finds the end.
        let next = self.next.0.swap(self.layout.end(), Ordering::Relaxed);
        self.until.store(0, Ordering::Relaxed);
        self.layout.time(next + self.layout.per_tick() - 1)
    }

    /// How long a lease lasts.
    pub(super) fn term(&self) -> Duration {
        self.term
    }

    /// The end that a lease should have if it is renewed now: borrowing may run ahead of the clock, so the lease has to be longer than its term.
    pub(super) fn lease_end(&self) -> Timestamp {
        self.clock.now().after(self.term).after(self.ahead)
    }

    /// Waits until an id was refused because the lease has ended.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Takes `count` positions and answers the first.
    #[inline]
    fn claim(&self, count: u32) -> Result<u64, IdError> {
        let now = self.clock.now();
        let Some(floor) = self.layout.position(now) else {
            return Err(IdError::BeforeEpoch { now, epoch: self.layout.epoch() });
        };
        let end = self.until.load(Ordering::Relaxed).min(floor.saturating_add(self.room));
        // Relaxed is enough: the positions guard no other memory, and one atomic number has one order of changes.
        let mut next = self.next.0.load(Ordering::Relaxed);
        loop {
            let first = next.max(floor);
            let after = first + u64::from(count);
            if after > end {
                return Err(self.refusal(first, count, now));
            }
            match self.next.0.compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(first),
                Err(seen) => next = seen,
            }
        }
    }

    #[cold]
    fn refusal(&self, first: u64, count: u32, now: Timestamp) -> IdError {
        if u64::from(count) > self.room {
            return IdError::TooMany { asked: count, most: self.room };
        }
        let floor = self.layout.position(now).unwrap_or(0);
        let until = self.until.load(Ordering::Relaxed);
        let after = first + u64::from(count);
        if until <= floor || after <= floor.saturating_add(self.room) {
            return self.ended(until);
        }
        let ahead = self.layout.time(after - 1).since(now);
        IdError::Ahead {
            wait: ahead.saturating_sub(self.ahead).max(Duration::from_millis(1)),
            ahead_ms: millis(ahead),
            allowed_ms: millis(self.ahead),
        }
    }

    fn ended(&self, until: u64) -> IdError {
        if until == self.layout.end() {
            return IdError::LayoutEnded { end: self.layout.time(until) };
        }
        self.stopped.notify_one();
        IdError::LeaseEnded { worker: self.worker, until: self.layout.time(until) }
    }
}

/// Ids that were taken in one step, in increasing order.
#[derive(Clone, Debug)]
pub struct Ids {
    next: u64,
    end: u64,
    layout: Layout,
    worker: u16,
}

impl Iterator for Ids {
    type Item = Id;

    #[inline]
    fn next(&mut self) -> Option<Id> {
        if self.next == self.end {
            return None;
        }
        let id = Id(self.layout.id(self.next, self.worker));
        self.next += 1;
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Ids {}
impl FusedIterator for Ids {}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
