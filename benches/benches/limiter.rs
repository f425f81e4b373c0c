//! The rate limiter: one key, many keys, too small a table, and a key over its quota.

use std::{hint::black_box, num::NonZeroU32, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use flashsale_core::{
    domain::{Clock as _, SystemClock, Timestamp},
    rate_limiter::{Decision, Quota, RateLimiter},
};

const KEYS: u64 = 1_000_000;

fn limiter(criterion: &mut Criterion) {
    let now = SystemClock.now();
    let mut group = criterion.benchmark_group("limiter");
    group.bench_function("one key, allowed", |bencher| {
        let limiter = new(1_000_000, 1_000, now);
        let mut millis = 0;
        bencher.iter(|| {
            millis += 1;
            limiter.check(black_box(7), now.after(Duration::from_millis(millis)))
        });
    });
    group.bench_function("one key, limited", |bencher| {
        let limiter = new(1, 1_000, now);
        limiter.check(7, now);
        bencher.iter(|| {
            let decision = limiter.check(black_box(7), now);
            assert!(matches!(decision, Decision::Limited { .. }));
        });
    });
    for (name, keys) in [("a million keys", 1_000_000), ("a million keys in a table for 10,000", 10_000)] {
        group.bench_function(name, |bencher| {
            let limiter = new(10, keys, now);
            let mut count = 0_u64;
            bencher.iter(|| {
                count += 1;
                let key = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
                limiter.check(black_box(key), now.after(Duration::from_millis(count / 1_000)))
            });
        });
    }
    group.finish();
}

fn new(burst: u32, keys: u32, now: Timestamp) -> RateLimiter {
    let burst = NonZeroU32::new(burst).expect("not zero");
    let quota = Quota::new(burst, Duration::from_secs(1)).expect("a quota within the clock's resolution");
    RateLimiter::new(quota, NonZeroU32::new(keys).expect("not zero"), now)
}

criterion_group!(benches, limiter);
criterion_main!(benches);
