//! Id generation, compared with other snowflake crates.
//!
//! With a layout of 41 + 10 + 12 bits there are 4,096 ids per millisecond, so a long run would only
//! measure waiting for the clock. Each sample is therefore a burst of 4,000 ids from a new
//! generator. In bursts of 40,000 (`borrow`), ours runs ahead of the clock and the others wait.
//!
//! Rows of one group use the same kind of clock: `system` asks the operating system for each id,
//! `ticker` reads an atomic that a thread updates every millisecond, as ferroid does.

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use ferroid::time::MonotonicClock;
use flashsale_benches::ids::{FerroidSystem, ferroid, ours};
use flashsale_core::domain::{Clock, SystemClock, Timestamp};

const BURST: u32 = 4_000;
const LONG_BURST: u32 = 40_000;
const BATCH: u32 = 250;

/// Our clock in the `ticker` rows.
#[derive(Debug)]
struct Ticker(Arc<AtomicU64>);

impl Ticker {
    fn start() -> Arc<Self> {
        let now = Arc::new(AtomicU64::new(SystemClock.now().as_millis()));
        let ticks = Arc::downgrade(&now);
        std::thread::spawn(move || {
            while let Some(now) = ticks.upgrade() {
                now.store(SystemClock.now().as_millis(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Arc::new(Self(now))
    }
}

impl Clock for Ticker {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn one_thread(criterion: &mut Criterion) {
    let ticker = Ticker::start();
    let mut group = group(criterion, "snowflake/system", BURST);
    burst(
        &mut group,
        "flashsale",
        BURST,
        || ours(Arc::new(SystemClock)),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
    );
    burst(
        &mut group,
        "snowflaked",
        BURST,
        || snowflaked::sync::Generator::new(1),
        |ids| {
            black_box(ids.generate::<u64>());
        },
    );
    burst(
        &mut group,
        "ferroid",
        BURST,
        || ferroid(FerroidSystem),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
    );
    burst(
        &mut group,
        "rs-snowflake (one thread only)",
        BURST,
        || snowflake::SnowflakeIdGenerator::new(1, 1),
        |ids| {
            black_box(ids.real_time_generate());
        },
    );
    group.bench_function("flashsale, batches of 250", |bencher| {
        bencher.iter_batched(
            || ours(Arc::new(SystemClock)),
            |ids| {
                for _ in 0..BURST / BATCH {
                    ids.take(BATCH).expect("ids available").for_each(|id| {
                        black_box(id);
                    });
                }
                ids
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = self::group(criterion, "snowflake/ticker", BURST);
    burst(
        &mut group,
        "flashsale",
        BURST,
        || ours(ticker.clone()),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
    );
    burst(
        &mut group,
        "ferroid",
        BURST,
        || ferroid(MonotonicClock::<1>::default()),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
    );
    group.finish();

    let mut group = self::group(criterion, "snowflake/borrow", LONG_BURST);
    burst(
        &mut group,
        "flashsale",
        LONG_BURST,
        || ours(Arc::new(SystemClock)),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
    );
    burst(
        &mut group,
        "snowflaked",
        LONG_BURST,
        || snowflaked::sync::Generator::new(1),
        |ids| {
            black_box(ids.generate::<u64>());
        },
    );
    burst(
        &mut group,
        "ferroid",
        LONG_BURST,
        || ferroid(FerroidSystem),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
    );
    group.finish();
}

fn two_threads(criterion: &mut Criterion) {
    let ticker = Ticker::start();
    let mut group = group(criterion, "snowflake/2 threads/system", BURST);
    shared(
        &mut group,
        "flashsale",
        || ours(Arc::new(SystemClock)),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
    );
    shared(
        &mut group,
        "snowflaked",
        || snowflaked::sync::Generator::new(1),
        |ids| {
            black_box(ids.generate::<u64>());
        },
    );
    shared(
        &mut group,
        "ferroid",
        || ferroid(FerroidSystem),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
    );
    shared(
        &mut group,
        "rs-snowflake in a mutex",
        || Mutex::new(snowflake::SnowflakeIdGenerator::new(1, 1)),
        |ids| {
            black_box(ids.lock().expect("no thread panics").real_time_generate());
        },
    );
    group.finish();

    let mut group = self::group(criterion, "snowflake/2 threads/ticker", BURST);
    shared(
        &mut group,
        "flashsale",
        || ours(ticker.clone()),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
    );
    shared(
        &mut group,
        "ferroid",
        || ferroid(MonotonicClock::<1>::default()),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
    );
    group.finish();
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, ids: u32) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(u64::from(ids)));
    group
}

/// Measures `count` ids made by one thread with a new generator.
fn burst<G>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    count: u32,
    generator: impl Fn() -> G,
    one: impl Fn(&mut G),
) {
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            &generator,
            |mut generator| {
                for _ in 0..count {
                    one(&mut generator);
                }
                generator
            },
            BatchSize::PerIteration,
        );
    });
}

/// Measures `BURST` ids made by two threads, half each, with one new generator.
fn shared<G: Sync>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    generator: impl Fn() -> G,
    one: impl Fn(&G) + Sync,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let generators: Vec<G> = (0..iterations).map(|_| generator()).collect();
            let barrier = Barrier::new(2);
            let work = || {
                let mut spent = Duration::ZERO;
                for generator in &generators {
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..BURST / 2 {
                        one(generator);
                    }
                    barrier.wait();
                    spent += start.elapsed();
                }
                spent
            };
            std::thread::scope(|scope| {
                let other = scope.spawn(work);
                let spent = work();
                other.join().expect("no thread panics").max(spent)
            })
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = one_thread, two_threads
}
criterion_main!(benches);
