//! The id generator: one atomic number that only increases.

use std::{
    iter::FusedIterator,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{HolderId, Layout, Lease, LeaseError, WorkerLease};
use crate::domain::{Clock, Invalid, OrderId, PaymentId, Timestamp};

/// Settings of a generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The layout of an id. Default: 41 + 10 + 12 bits since 2024-01-01.
    pub layout: Layout,
    /// How far ids may run ahead of the wall clock, and so how far it may step back without effect.
    /// Default: 1 s.
    pub ahead: Duration,
    /// Duration of a lease; [`renew_lease`](super::renew_lease) renews it after a third of that.
    /// Default: 10 s.
    pub term: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: Layout::default(), ahead: Duration::from_secs(1), term: Duration::from_secs(10) }
    }
}

/// A number that no other generator of the deployment produces, in `1..=i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// The id as a number.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl From<Id> for OrderId {
    fn from(id: Id) -> Self {
        Self::new(id.0).expect("ids are in 1..=i64::MAX")
    }
}

impl From<Id> for PaymentId {
    fn from(id: Id) -> Self {
        Self::new(id.0).expect("ids are in 1..=i64::MAX")
    }
}

/// Generates ids, each greater than all earlier ones of the same worker id.
///
/// All threads of a process share one generator. `next` and `take` are lock-free and never wait. If
/// the clock was set back further than [`Settings::ahead`], [`renew_lease`](super::renew_lease)
/// takes another worker id, with which the generator goes on at the clock's time.
#[derive(Debug)]
pub struct Generator {
    /// The worker ids used so far; only the current one makes ids.
    spans: Box<[OnceLock<Span>; MAX_WORKERS]>,
    current: AtomicUsize,
    /// How many positions may be used, counted from the start of the current millisecond.
    window: u64,
    layout: Layout,
    clock: Arc<dyn Clock>,
    ahead: Duration,
    term: Duration,
    stopped: Notify,
    set_back: Notify,
}

/// How many worker ids one generator uses, so how often its clock may be set back.
const MAX_WORKERS: usize = 64;

/// A worker id, and what is used of its lease.
#[derive(Debug)]
struct Span {
    /// The next position; see [`Layout::position`].
    next: CacheLine<AtomicU64>,
    /// The position where the lease ends.
    until: AtomicU64,
    worker: u16,
    holder: HolderId,
    from: Timestamp,
}

/// A value on its own cache line, so that writes to it do not slow down readers of other fields.
/// 128 bytes, because processors prefetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct CacheLine<T>(T);

/// Why no id is available now. No id was used up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The lease ended without renewal, or the generator was closed.
    #[error(
        "the lease of worker id {worker} ended at {until:?}: no ids until it is renewed; check why the renewal fails"
    )]
    LeaseEnded {
        /// The worker id.
        worker: u16,
        /// When the lease ended.
        until: Timestamp,
    },
    /// Ids would run too far ahead of the clock: demand is too high, or the clock was set back.
    #[error(
        "ids are {ahead_ms} ms ahead of the clock; at most {allowed_ms} are allowed: retry in {} ms, or sooner if the \
         clock was set back and another worker id is free",
        wait.as_millis()
    )]
    Ahead {
        /// When a retry succeeds, if the clock advances and no other ids are taken.
        wait: Duration,
        /// How far the last requested id would be ahead, in milliseconds.
        ahead_ms: u64,
        /// The allowed lead, in milliseconds.
        allowed_ms: u64,
    },
    /// More ids were requested in one step than the allowed lead can ever cover.
    #[error("{asked} ids in one step; at most {most} are possible: take them in several steps")]
    TooMany {
        /// The requested number of ids.
        asked: u32,
        /// The maximum in one step.
        most: u64,
    },
    /// The wall clock is before the layout's epoch.
    #[error("the clock shows {now:?}, which is before the epoch of ids, {epoch:?}: set the clock")]
    BeforeEpoch {
        /// The time on the clock.
        now: Timestamp,
        /// The epoch of the layout.
        epoch: Timestamp,
    },
    /// The layout has too few time bits for the current time.
    #[error("the layout of ids ends at {end:?}: the clock is wrong, or the layout needs more time bits")]
    LayoutEnded {
        /// The first time that does not fit.
        end: Timestamp,
    },
}

/// Why a generator could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No lease could be acquired.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The lease's worker id does not fit the layout.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Generator {
    /// Acquires a worker id and creates its generator; [`renew_lease`](super::renew_lease) renews
    /// the lease. A call of the store that may or may not have taken effect is repeated once, for the
    /// same holder. If that fails as well, a worker id may stay unused for the term of a lease.
    ///
    /// # Errors
    /// If no lease is available, or its worker id does not fit the layout.
    pub async fn acquire(
        leases: &dyn WorkerLease,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let holder = HolderId::random().map_err(LeaseError::no_randomness)?;
        let acquire = || {
            let now = clock.now();
            leases.acquire(holder, now, now.after(settings.term).after(settings.ahead))
        };
        let lease = match acquire().await {
            Err(error) if !error.is_definite() => acquire().await?,
            answer => answer?,
        };
        Ok(Self::new(settings, lease, clock)?)
    }

    /// Creates a generator for `lease`.
    ///
    /// # Errors
    /// If the worker id does not fit the layout.
    pub fn new(settings: &Settings, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        let layout = settings.layout;
        let ahead = layout.position(layout.epoch().after(settings.ahead)).unwrap_or(layout.end());
        let spans = Box::new([const { OnceLock::new() }; MAX_WORKERS]);
        spans[0].get_or_init(|| Span::new(&layout, lease));
        check_worker(&layout, lease)?;
        Ok(Self {
            spans,
            current: AtomicUsize::new(0),
            window: ahead.saturating_add(layout.per_tick()),
            layout,
            clock,
            ahead: settings.ahead,
            term: settings.term,
            stopped: Notify::new(),
            set_back: Notify::new(),
        })
    }

    /// Generates an id.
    ///
    /// # Errors
    /// See [`IdError`].
    #[inline]
    pub fn next(&self) -> Result<Id, IdError> {
        self.claim(1).map(|(position, worker)| Id(self.layout.id(position, worker)))
    }

    /// Generates `count` ids in one step: all or none.
    ///
    /// # Errors
    /// See [`IdError`].
    #[inline]
    pub fn take(&self, count: u32) -> Result<Ids, IdError> {
        let (start, worker) = if count == 0 { (0, 0) } else { self.claim(count)? };
        Ok(Ids { next: start, end: start + u64::from(count), layout: self.layout, worker })
    }

    /// The worker id of the lease.
    pub fn worker(&self) -> u16 {
        self.span().worker
    }

    /// The lease, with its current end.
    pub fn lease(&self) -> Lease {
        let span = self.span();
        let until = self.layout.time(span.until.load(Ordering::Relaxed));
        Lease { worker: span.worker, holder: span.holder, from: span.from, until }
    }

    /// How long the lease still lasts, by the clock of the ids; zero if it has ended.
    pub fn lease_left(&self) -> Duration {
        self.lease().until.since(self.clock.now())
    }

    /// Extends the lease. Another lease, or one that ends earlier, is ignored.
    pub fn extend(&self, renewed: Lease) {
        let span = self.span();
        if (renewed.worker, renewed.holder) == (span.worker, span.holder) {
            span.until.fetch_max(self.layout.position(renewed.until).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Goes on with the worker id of another lease. Returns the lease so far and the end of its
    /// used span, for [`WorkerLease::release`].
    ///
    /// # Errors
    /// If the worker id does not fit the layout, or the generator has used too many.
    pub fn replace(&self, lease: Lease) -> Result<(Lease, Timestamp), Invalid> {
        check_worker(&self.layout, lease)?;
        let (current, former) = (self.current.load(Ordering::Acquire), self.lease());
        let full = || Invalid::new("worker", format!("a generator uses at most {MAX_WORKERS} worker ids"));
        let span = self.spans.get(current + 1).ok_or_else(full)?;
        span.set(Span::new(&self.layout, lease)).map_err(|_| full())?;
        self.current.store(current + 1, Ordering::Release);
        let used_until = self.spans[current].get().map_or(former.until, |span| span.close(&self.layout));
        Ok((former, used_until))
    }

    /// Stops for good. Returns the end of the used span, for [`WorkerLease::release`].
    pub fn close(&self) -> Timestamp {
        self.span().close(&self.layout)
    }

    fn span(&self) -> &Span {
        self.spans[self.current.load(Ordering::Acquire)].get().expect("a span is set before it is current")
    }

    /// Duration of a lease.
    pub(super) fn term(&self) -> Duration {
        self.term
    }

    /// When a lease renewed now should end: after its term plus the time that ids may be ahead.
    pub(super) fn lease_end(&self) -> Timestamp {
        self.clock.now().after(self.term).after(self.ahead)
    }

    /// Waits until an id is refused because the lease has ended.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Waits until an id is refused because the clock was set back further than ids may be ahead.
    pub(super) async fn was_set_back(&self) {
        self.set_back.notified().await;
    }

    /// The time of the clock, for acquiring a lease.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The latest time at which a lease is of use now.
    pub(super) fn latest(&self) -> Timestamp {
        self.clock.now().after(self.ahead)
    }

    /// Claims `count` positions and returns the first, with the worker id.
    #[inline]
    fn claim(&self, count: u32) -> Result<(u64, u16), IdError> {
        let span = self.span();
        let now = self.clock.now();
        let Some(floor) = self.layout.position(now) else {
            return Err(IdError::BeforeEpoch { now, epoch: self.layout.epoch() });
        };
        let end = span.until.load(Ordering::Relaxed).min(floor.saturating_add(self.window));
        // `Relaxed` suffices: positions guard no other memory, and one atomic has a total order.
        let mut next = span.next.0.load(Ordering::Relaxed);
        loop {
            let first = next.max(floor);
            let after = first + u64::from(count);
            if after > end {
                return self.refuse(span, first, count, now);
            }
            match span.next.0.compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((first, span.worker)),
                Err(seen) => next = seen,
            }
        }
    }

    /// Claims again if the worker id has just been replaced.
    #[cold]
    fn refuse(&self, span: &Span, first: u64, count: u32, now: Timestamp) -> Result<(u64, u16), IdError> {
        if std::ptr::eq(span, self.span()) {
            return Err(self.refusal(span, first, count, now));
        }
        self.claim(count)
    }

    fn refusal(&self, span: &Span, first: u64, count: u32, now: Timestamp) -> IdError {
        if u64::from(count) > self.window {
            return IdError::TooMany { asked: count, most: self.window };
        }
        let floor = self.layout.position(now).unwrap_or(0);
        let until = span.until.load(Ordering::Relaxed);
        let after = first + u64::from(count);
        if until <= floor || after <= floor.saturating_add(self.window) {
            return self.ended(span.worker, until);
        }
        // Demand alone takes ids up to the end of the window.
        if first > floor.saturating_add(self.window) {
            self.set_back.notify_one();
        }
        let ahead = self.layout.time(after - 1).since(now);
        IdError::Ahead {
            wait: ahead.saturating_sub(self.ahead).max(Duration::from_millis(1)),
            ahead_ms: millis(ahead),
            allowed_ms: millis(self.ahead),
        }
    }

    fn ended(&self, worker: u16, until: u64) -> IdError {
        if until == self.layout.end() {
            return IdError::LayoutEnded { end: self.layout.time(until) };
        }
        self.stopped.notify_one();
        IdError::LeaseEnded { worker, until: self.layout.time(until) }
    }
}

impl Span {
    fn new(layout: &Layout, lease: Lease) -> Self {
        // Worker 0 at position 0 would make the invalid id 0, so the first millisecond is unused.
        let first = layout.position(lease.from).unwrap_or(0).max(layout.per_tick());
        Self {
            next: CacheLine(AtomicU64::new(first)),
            until: AtomicU64::new(layout.position(lease.until).unwrap_or(0)),
            worker: lease.worker,
            holder: lease.holder,
            from: lease.from,
        }
    }

    /// Uses no more positions. Returns the end of the used ones.
    fn close(&self, layout: &Layout) -> Timestamp {
        // Concurrent claims fail their compare-exchange, and then find no positions left.
        let next = self.next.0.swap(layout.end(), Ordering::Relaxed);
        self.until.store(0, Ordering::Relaxed);
        layout.time(next + layout.per_tick() - 1)
    }
}

fn check_worker(layout: &Layout, lease: Lease) -> Result<(), Invalid> {
    if lease.worker <= layout.last_worker() {
        return Ok(());
    }
    let (worker, last) = (lease.worker, layout.last_worker());
    let reason = format!("worker id {worker} does not fit the layout; the highest is {last}");
    Err(Invalid::new("worker", reason))
}

/// Ids taken in one step, in increasing order.
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
