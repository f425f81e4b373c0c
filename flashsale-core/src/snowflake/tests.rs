//! Uniqueness and order of ids (I12), whatever clocks, threads and crashes do.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::{
    domain::{Clock, ManualClock, OrderId, PaymentId, SystemClock, Timestamp},
    embedded::LeaseFile,
};

const NOW: u64 = 1_790_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn lease(worker: u16, from: u64, until: u64) -> Lease {
    Lease { worker, holder: HolderId(1), from: at(from), until: at(until) }
}

/// A generator whose clock shows `NOW` and whose lease outlives the test.
fn generator(settings: &Settings) -> (Generator, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let generator = Generator::new(settings, lease(5, 0, NOW + 1_000_000_000), clock.clone()).unwrap();
    (generator, clock)
}

fn settings(ahead_ms: u64) -> Settings {
    Settings { ahead: Duration::from_millis(ahead_ms), ..Settings::default() }
}

#[test]
fn ids_carry_time_worker_and_sequence() {
    let (generator, clock) = generator(&Settings::default());
    let layout = Layout::default();
    let first = generator.next().unwrap();
    assert_eq!(layout.parts(first.value()), Parts { time: at(NOW), worker: 5, sequence: 0 });
    let ids: Vec<_> = generator.take(4_096).unwrap().collect();
    assert_eq!(layout.parts(ids[0].value()), Parts { time: at(NOW), worker: 5, sequence: 1 });
    assert_eq!(layout.parts(ids[4_095].value()), Parts { time: at(NOW + 1), worker: 5, sequence: 0 });
    clock.advance(Duration::from_millis(7));
    let later = generator.next().unwrap();
    assert_eq!(layout.parts(later.value()), Parts { time: at(NOW + 7), worker: 5, sequence: 0 });
    assert_eq!(OrderId::from(later).value(), PaymentId::from(later).value());
    assert_eq!(generator.take(0).unwrap().len(), 0);
}

#[test]
fn the_smallest_and_the_largest_id_are_valid() {
    let settings = Settings {
        layout: Layout::new(at(NOW), 10, 0, 2).unwrap(),
        ahead: Duration::from_secs(1),
        ..Settings::default()
    };
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let generator = Generator::new(&settings, lease(0, 0, NOW + 1_000_000), clock.clone()).unwrap();
    assert_eq!(generator.next().unwrap().value(), 4, "the first millisecond of the layout stays unused");
    clock.set(at(NOW + 1_023));
    let last: Vec<_> = generator.take(4).unwrap().map(Id::value).collect();
    assert_eq!(last, [4_092, 4_093, 4_094, 4_095]);
    assert_eq!(generator.next(), Err(IdError::LayoutEnded { end: at(NOW + 1_024) }));
    clock.set(Timestamp::MAX);
    assert_eq!(generator.next(), Err(IdError::LayoutEnded { end: at(NOW + 1_024) }));
    clock.set(at(NOW - 1));
    assert_eq!(generator.next(), Err(IdError::BeforeEpoch { now: at(NOW - 1), epoch: at(NOW) }));
}

#[test]
fn borrowing_is_bounded_and_reports_the_wait() {
    let (generator, clock) = generator(&settings(2));
    assert_eq!(generator.take(12_289).unwrap_err(), IdError::TooMany { asked: 12_289, most: 12_288 });
    assert_eq!(generator.take(12_288).unwrap().len(), 12_288, "this millisecond and two more");
    let refused = generator.next().unwrap_err();
    assert_eq!(
        refused,
        IdError::Ahead { wait: Duration::from_millis(1), ahead_ms: 3, allowed_ms: 2 },
        "{refused}"
    );
    clock.advance(Duration::from_millis(1));
    assert!(generator.next().is_ok(), "after the reported wait");
    assert!(generator.take(4_096).is_err());
    assert!(generator.take(4_095).is_ok(), "a refused batch uses up nothing");
}

#[test]
fn a_clock_step_back_is_tolerated_within_the_bound() {
    let (generator, clock) = generator(&settings(1_000));
    let before = generator.next().unwrap();
    clock.set(at(NOW - 1_000));
    let after = generator.next().unwrap();
    assert!(after > before);
    clock.set(at(NOW - 1_001));
    assert_eq!(
        generator.next(),
        Err(IdError::Ahead { wait: Duration::from_millis(1), ahead_ms: 1_001, allowed_ms: 1_000 })
    );
    clock.set(at(NOW - 3_600_000));
    let Err(IdError::Ahead { wait, .. }) = generator.next() else { panic!("an hour back is too far") };
    clock.advance(wait);
    assert!(generator.next().unwrap() > after);
}

#[test]
fn a_generator_stops_itself_at_the_end_of_its_lease() {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let generator = Generator::new(&settings(1_000), lease(1, NOW + 1, NOW + 4), clock.clone()).unwrap();
    assert_eq!(
        Layout::default().parts(generator.next().unwrap().value()).time,
        at(NOW + 1),
        "from the high-water mark on"
    );
    assert!(generator.take(3 * 4_096 - 1).is_ok(), "up to the end");
    assert_eq!(
        generator.next(),
        Err(IdError::LeaseEnded { worker: 1, until: at(NOW + 4) }),
        "borrowing ends there too"
    );
    clock.set(at(NOW + 100));
    assert_eq!(generator.next(), Err(IdError::LeaseEnded { worker: 1, until: at(NOW + 4) }));
    generator.extend(lease(2, 0, NOW + 1_000));
    assert!(generator.next().is_err(), "a lease of another worker id");
    generator.extend(lease(1, NOW + 1, NOW + 101));
    assert!(generator.next().is_ok());
    assert_eq!(generator.close(), at(NOW + 101));
    generator.extend(lease(1, NOW + 1, NOW + 1_000));
    assert!(generator.next().is_err(), "closed for good");
}

#[test]
fn a_worker_id_has_to_fit_the_layout() {
    let refused = Generator::new(&Settings::default(), lease(1_024, 0, 1), Arc::new(SystemClock));
    assert!(refused.unwrap_err().to_string().contains("1023"));
}

#[derive(Clone, Debug)]
enum Step {
    Clock(i64),
    Take(u32),
    Extend(u64),
    Restart { clean: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (-3_000_i64..3_000).prop_map(Step::Clock),
        1 => (-5_i64..5).prop_map(Step::Clock),
        4 => (1_u32..40).prop_map(Step::Take),
        1 => (0_u64..4_000).prop_map(Step::Extend),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Few ids per millisecond, so that carrying and borrowing happen constantly.
fn narrow() -> Settings {
    Settings {
        layout: Layout::new(at(NOW - 100_000), 41, 10, 2).unwrap(),
        ahead: Duration::from_millis(20),
        term: Duration::from_millis(1_000),
    }
}

fn move_clock(clock: &ManualClock, by: i64) {
    let now = clock.now().as_millis();
    clock.set(at(now.saturating_add_signed(by)));
}

proptest! {
    #[test]
    fn ids_increase_and_stay_in_their_bounds(steps in steps()) {
        let settings = narrow();
        let clock = Arc::new(ManualClock::new(at(NOW)));
        let mut until = at(NOW + 1_000);
        let granted = lease(3, NOW - 50, NOW + 1_000);
        let generator = Generator::new(&settings, granted, clock.clone()).unwrap();
        let mut last = None;
        for step in steps {
            match step {
                Step::Clock(by) => move_clock(&clock, by),
                Step::Extend(by) => {
                    until = until.max(clock.now().after(Duration::from_millis(by)));
                    generator.extend(Lease { until, ..granted });
                }
                Step::Restart { .. } => {}
                Step::Take(count) => match generator.take(count) {
                    Ok(ids) => {
                        prop_assert_eq!(ids.len(), count as usize);
                        for id in ids {
                            let parts = settings.layout.parts(id.value());
                            prop_assert!(last < Some(id));
                            prop_assert!(parts.time < until);
                            prop_assert!(parts.time >= at(NOW - 50));
                            prop_assert!(parts.time.since(clock.now()) <= settings.ahead);
                            prop_assert_eq!(parts.worker, 3);
                            last = Some(id);
                        }
                    }
                    Err(IdError::Ahead { wait, .. }) => {
                        clock.advance(wait);
                        let again = generator.take(count);
                        prop_assert!(
                            matches!(again, Ok(_) | Err(IdError::LeaseEnded { .. })),
                            "after the wait: {:?}", again
                        );
                        if let Ok(ids) = again {
                            for id in ids {
                                prop_assert!(last < Some(id));
                                last = Some(id);
                            }
                        }
                    }
                    Err(IdError::LeaseEnded { until: ended, .. }) => {
                        prop_assert_eq!(ended, until);
                        let reach = clock.now().max(last.map_or(Timestamp::EPOCH, |id: Id| {
                            settings.layout.parts(id.value()).time
                        }));
                        prop_assert!(reach.after(Duration::from_millis(u64::from(count / 4 + 1))) >= until);
                    }
                    Err(error) => prop_assert!(false, "{}", error),
                },
            }
        }
    }

    #[test]
    fn a_restart_never_repeats_an_id(steps in steps(), files in prop::bool::weighted(0.1)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move {
            let settings = narrow();
            let clock = Arc::new(ManualClock::new(at(NOW)));
            let directory = tempfile::tempdir().unwrap();
            let memory = Arc::new(InMemoryLease::new(0..=0));
            // A single worker id, so that every start has to continue where the last one ended.
            let mut leases = open(directory.path(), files, &memory);
            let mut generator = start(&*leases, &settings, &clock).await;
            let mut seen = HashSet::new();
            for step in steps {
                match step {
                    Step::Clock(by) => move_clock(&clock, by),
                    Step::Extend(by) => {
                        let until = clock.now().after(Duration::from_millis(by));
                        generator.extend(leases.renew(generator.lease(), until).await.unwrap());
                    }
                    Step::Take(count) => {
                        for id in generator.take(count).into_iter().flatten() {
                            prop_assert!(seen.insert(id), "{:?} twice", id);
                        }
                    }
                    Step::Restart { clean } => {
                        let lease = generator.lease();
                        if clean {
                            let used = generator.close();
                            leases.release(lease, used).await.unwrap();
                        } else if files {
                            drop(leases);
                        } else {
                            // A dead process loses its lock but not its mark.
                            memory.release(lease, lease.until).await.unwrap();
                        }
                        leases = open(directory.path(), files, &memory);
                        generator = start(&*leases, &settings, &clock).await;
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn two_workers_never_make_the_same_id(
        takes in prop::collection::vec((any::<bool>(), 1_u32..60, -30_i64..40), 1..100)
    ) {
        let clock = Arc::new(ManualClock::new(at(NOW)));
        let settings = narrow();
        let of = |worker| Generator::new(&settings, lease(worker, 0, NOW + 1_000_000), clock.clone()).unwrap();
        let (a, b) = (of(0), of(1_023));
        let mut seen = HashSet::new();
        for (first, count, by) in takes {
            let ids = if first { a.take(count) } else { b.take(count) };
            for id in ids.into_iter().flatten() {
                prop_assert!(seen.insert(id));
            }
            move_clock(&clock, by);
        }
    }
}

fn open(directory: &std::path::Path, files: bool, memory: &Arc<InMemoryLease>) -> Arc<dyn WorkerLease> {
    if files { Arc::new(LeaseFile::new(directory, 0..=0).unwrap()) } else { memory.clone() }
}

async fn start(leases: &dyn WorkerLease, settings: &Settings, clock: &Arc<ManualClock>) -> Generator {
    Generator::acquire(leases, settings, clock.clone()).await.unwrap()
}

#[test]
fn threads_never_share_an_id() {
    const THREADS: usize = 4;
    const STEPS: u32 = 2_000;
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let generator =
        Generator::new(&settings(1_000), lease(9, 0, NOW + 1_000_000_000), clock.clone()).unwrap();
    let done = AtomicBool::new(false);
    let mut all: Vec<Id> = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Three steps forward, one back.
            for by in [40, -30, 7, 1].into_iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                move_clock(&clock, by);
                std::thread::yield_now();
            }
        });
        let makers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine: Vec<Id> = Vec::new();
                    for step in 0..STEPS {
                        let ids: Vec<_> = if step % 3 == 0 {
                            generator.take(step % 50 + 1).into_iter().flatten().collect()
                        } else {
                            generator.next().into_iter().collect()
                        };
                        assert!(mine.last().is_none_or(|last| Some(last) < ids.first() || ids.is_empty()));
                        mine.extend(ids);
                    }
                    mine
                })
            })
            .collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join()).collect();
        // Set before results are checked: otherwise a failure would leave the clock thread running.
        done.store(true, Ordering::Relaxed);
        made.into_iter().flat_map(Result::unwrap).collect()
    });
    let made = all.len();
    assert!(made >= THREADS * STEPS as usize / 2, "only {made} ids were made");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), made);
}

/// Leases that fail on demand, and signal each renewal.
#[derive(Debug)]
struct Failing {
    inner: InMemoryLease,
    fail: Mutex<Option<fn() -> LeaseError>>,
    reply_lost: AtomicBool,
    asked: Notify,
}

impl Failing {
    fn new(workers: std::ops::RangeInclusive<u16>) -> Self {
        let inner = InMemoryLease::new(workers);
        Self { inner, fail: Mutex::new(None), reply_lost: AtomicBool::new(false), asked: Notify::new() }
    }
}

fn disk_full() -> LeaseError {
    LeaseError::Store { action: "cannot write".to_owned(), source: std::io::Error::other("disk full").into() }
}

#[async_trait]
impl WorkerLease for Failing {
    async fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let acquired = self.inner.acquire(holder, now, until).await;
        if self.reply_lost.swap(false, Ordering::SeqCst) {
            return Err(disk_full());
        }
        acquired
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        self.asked.notify_one();
        let fail = *self.fail.lock().unwrap();
        match fail {
            Some(error) => Err(error()),
            None => self.inner.renew(lease, until).await,
        }
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        self.inner.release(lease, used_until).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_is_renewed_and_released() {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let leases = Arc::new(Failing::new(0..=0));
    let settings = Settings::default();
    let generator = Arc::new(Generator::acquire(&*leases, &settings, clock.clone()).await.unwrap());
    assert_eq!(generator.lease().until, at(NOW + 11_000));
    let (stop, stopped) = oneshot::channel::<()>();
    let keeper = tokio::spawn(renew_lease(generator.clone(), leases.clone(), async {
        let _ = stopped.await;
    }));

    // The manual clock stands still but timers run. The lease is renewed after a third of the term.
    clock.set(at(NOW + 3_400));
    let asked_at = tokio::time::Instant::now();
    leases.asked.notified().await;
    assert_eq!(asked_at.elapsed().as_secs(), 3);
    tokio::task::yield_now().await;
    assert_eq!(generator.lease().until, at(NOW + 14_400));

    // Renewals fail until the lease has ended: the generator stops, and resumes once they succeed.
    *leases.fail.lock().unwrap() = Some(disk_full);
    clock.set(at(NOW + 14_400));
    leases.asked.notified().await;
    assert!(matches!(generator.next(), Err(IdError::LeaseEnded { .. })));
    *leases.fail.lock().unwrap() = None;
    leases.asked.notified().await;
    tokio::task::yield_now().await;
    let id = generator.next().unwrap();

    // The clock jumps past the end: the refused id wakes the renewal early.
    clock.set(at(NOW + 3_600_000));
    assert!(generator.next().is_err());
    let refused_at = tokio::time::Instant::now();
    leases.asked.notified().await;
    assert!(refused_at.elapsed() <= Duration::from_millis(1_001), "{:?}", refused_at.elapsed());
    tokio::task::yield_now().await;
    let later = generator.next().unwrap();
    assert!(later > id);

    stop.send(()).unwrap();
    keeper.await.unwrap().unwrap();
    assert!(generator.next().is_err(), "closed");
    let next = leases.acquire(HolderId(9), at(NOW), at(NOW)).await.unwrap();
    assert_eq!(next.from, at(NOW + 3_600_001), "starts after the last id, not at the end of the lease");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_its_renewal() {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let leases = Arc::new(InMemoryLease::new(0..=0));
    let generator =
        Arc::new(Generator::acquire(&*leases, &Settings::default(), clock.clone()).await.unwrap());
    leases.release(generator.lease(), generator.lease().until).await.unwrap();
    let kept = renew_lease(generator.clone(), leases, std::future::pending()).await;
    assert!(matches!(kept, Err(LeaseError::Lost { worker: 0 })));
    assert!(generator.next().is_ok(), "the granted span is still valid");
    clock.set(generator.lease().until);
    assert!(generator.next().is_err());
}

/// A generator takes the worker id that it got by a call whose reply was lost.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_takes_no_second_worker_id() {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let leases = Arc::new(Failing::new(0..=2));
    leases.reply_lost.store(true, Ordering::SeqCst);
    let generator =
        Arc::new(Generator::acquire(&*leases, &Settings::default(), clock.clone()).await.unwrap());
    assert_eq!(generator.worker(), 0);
    generator.next().unwrap();

    // The same for the worker id after a step back of the clock.
    let keeper = tokio::spawn(renew_lease(generator.clone(), leases.clone(), std::future::pending()));
    tokio::task::yield_now().await;
    leases.reply_lost.store(true, Ordering::SeqCst);
    clock.set(at(NOW - 3_600_000));
    while generator.next().is_err() {
        leases.asked.notified().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(generator.worker(), 1);
    let free = leases.acquire(HolderId(9), at(NOW - 3_600_000), at(NOW)).await.unwrap();
    assert_eq!(free.worker, 2, "0 was used later, and nobody took 2");
    keeper.abort();
}

/// A clock that steps back further than the bound: ids go on at once, under a fresh worker id.
#[tokio::test(start_paused = true)]
async fn after_a_step_back_ids_go_on_with_a_fresh_worker_id() {
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let leases = Arc::new(InMemoryLease::new(0..=2));
    let generator =
        Arc::new(Generator::acquire(&*leases, &Settings::default(), clock.clone()).await.unwrap());
    let keeper = tokio::spawn(renew_lease(generator.clone(), leases.clone(), std::future::pending()));
    tokio::task::yield_now().await;
    let layout = Layout::default();
    let mut made = HashSet::new();
    for (back_ms, worker) in [(0, 0), (8_000, 1), (3_600_000, 2)] {
        clock.set(clock.now().moved(-back_ms));
        let began = tokio::time::Instant::now();
        let ids = loop {
            match generator.take(10) {
                Ok(ids) => break ids,
                Err(IdError::Ahead { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(began.elapsed(), Duration::ZERO, "no timer has to pass");
        for id in ids {
            let parts = layout.parts(id.value());
            assert_eq!((parts.worker, parts.time), (worker, clock.now()));
            assert!(made.insert(id));
        }
        assert_eq!(generator.worker(), worker);
    }
    // Worker ids 0 and 1 are free again, but were used at later times.
    clock.set(clock.now().moved(-3_600_000));
    assert!(matches!(generator.next(), Err(IdError::Ahead { .. })));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(generator.next(), Err(IdError::Ahead { .. })), "no worker id is of use");
    assert_eq!(generator.worker(), 2);
    let freed = leases.acquire(HolderId(9), at(NOW), at(NOW)).await.unwrap();
    assert!((0..=1).contains(&freed.worker), "{freed:?}");
    keeper.abort();
}
