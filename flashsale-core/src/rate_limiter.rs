//! A rate limiter whose memory does not grow with the number of callers.
//!
//! It implements GCRA (generic cell rate algorithm, ITU-T I.371): each key has one number, the time
//! at which its quota is full again. The numbers live in a table of fixed size. A call takes one
//! hash, one cache line and one atomic exchange, without a lock.
//!
//! **Collisions.** A hash with a random seed maps a key to a line of eight slots, so that outsiders
//! cannot target a line. A slot whose quota is full holds no information and is free for any key.
//! Only if all eight are in use, a new key takes over the slot closest to full, *with* its debt:
//! - No key ever gets more than its quota: an evicted key finds at least its own debt on return.
//! - A key may get less if more than eight keys of its line are in debt, or if two share 16 bits of
//!   hash. With as many keys in debt as planned, 2 lines in 100 are that full, and a key there
//!   starts with the smallest debt of eight, typically one request. That is the price of constant
//!   memory, and a limiter that guards a sale should err on that side.
//!
//! One exception: threads that race on the *first* requests of a key, just as other slots of its
//! line become free, may create two slots for it. Each such race may give the key one extra burst.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::domain::{Invalid, Timestamp};

/// Slots per line: eight of eight bytes fill one cache line.
const SLOTS: usize = 8;
/// The low bits of a slot: when its quota is full, in µs since creation; almost nine years.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const MAX_PERIOD: Duration = Duration::from_secs(31 * 24 * 3_600);

/// A number of requests per period, which may come in a burst or spread out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    burst: NonZeroU32,
    interval_us: u64,
}

impl Quota {
    /// Creates a quota of `burst` requests per `per`. An idle key may make `burst` requests at once
    /// and regains one every `per / burst`, rounded up to microseconds.
    ///
    /// # Errors
    /// If `per` exceeds 31 days, or is below one microsecond per request.
    pub fn new(burst: NonZeroU32, per: Duration) -> Result<Self, Invalid> {
        let interval = per.as_nanos().div_ceil(u128::from(burst.get())).div_ceil(1_000);
        match u64::try_from(interval) {
            Ok(interval_us) if per <= MAX_PERIOD && per.as_micros() >= u128::from(burst.get()) => {
                Ok(Self { burst, interval_us })
            }
            _ => Err(Invalid::new(
                "quota",
                format!("{burst} per {per:?}: at most 31 days, and at most one request per microsecond"),
            )),
        }
    }

    /// Returns the maximum number of requests at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Returns the time in which a key regains one request.
    pub fn interval(&self) -> Duration {
        Duration::from_micros(self.interval_us)
    }

    /// Returns the time in which an exhausted quota becomes full, in microseconds.
    fn refill_us(&self) -> u64 {
        self.interval_us * u64::from(self.burst.get())
    }
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request may pass and was counted.
    Allowed {
        /// The number of further requests that may pass now.
        remaining: u32,
    },
    /// The request may not pass and was not counted.
    Limited {
        /// The time until the key's next request may pass, rounded up to microseconds; never zero.
        retry_after: Duration,
    },
}

/// A limiter that gives each key the same quota.
#[derive(Debug)]
pub struct RateLimiter {
    quota: Quota,
    origin: Timestamp,
    seed: RandomState,
    lines: Box<[CacheLine]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct CacheLine([AtomicU64; SLOTS]);

impl RateLimiter {
    /// Creates a limiter for about `keys` keys in debt at once; allocates 16 to 32 bytes for each.
    ///
    /// All calls must take their times from the same clock as `now`.
    pub fn new(quota: Quota, keys: NonZeroU32, now: Timestamp) -> Self {
        let lines = (keys.get() as usize).div_ceil(SLOTS / 2).next_power_of_two();
        Self {
            quota,
            origin: now,
            seed: RandomState::new(),
            lines: std::iter::repeat_with(CacheLine::default).take(lines).collect(),
        }
    }

    /// Returns the quota of each key.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Counts one request of `key`, such as a user id or the digest of an address.
    ///
    /// If the clock steps back, a key is blocked for at most one interval.
    pub fn check(&self, key: u64, now: Timestamp) -> Decision {
        let hash = self.seed.hash_one(key);
        let line = self.line(hash);
        let tag = hash >> TIME_BITS;
        let now = self.micros(now);
        let latest = now + self.quota.refill_us();
        let (mut slot, mut seen) = line.find(tag, now);
        loop {
            let full_at = (seen & TIME_MASK).clamp(now, latest) + self.quota.interval_us;
            if full_at > latest {
                return Decision::Limited { retry_after: Duration::from_micros(full_at - latest) };
            }
            let taken = tag << TIME_BITS | full_at;
            match slot.compare_exchange(seen, taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let remaining = (latest - full_at) / self.quota.interval_us;
                    return Decision::Allowed { remaining: u32::try_from(remaining).unwrap_or(u32::MAX) };
                }
                // Another thread took the slot, perhaps for another key: search again.
                Err(_) => (slot, seen) = line.find(tag, now),
            }
        }
    }

    /// Returns how many requests of its quota a key has used and not yet regained; counts nothing.
    pub fn used(&self, key: u64, now: Timestamp) -> u32 {
        let hash = self.seed.hash_one(key);
        let tag = hash >> TIME_BITS;
        let now = self.micros(now);
        let slots = self.line(hash).0.iter().map(|slot| slot.load(Ordering::Relaxed));
        let own = slots.filter(|value| value >> TIME_BITS == tag).map(|value| value & TIME_MASK).max();
        let debt = own.unwrap_or(0).saturating_sub(now).div_ceil(self.quota.interval_us);
        u32::try_from(debt).unwrap_or(u32::MAX).min(self.quota.burst.get())
    }

    fn line(&self, hash: u64) -> &CacheLine {
        let low = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        &self.lines[low & (self.lines.len() - 1)]
    }

    /// Returns microseconds since creation, capped to leave room for a quota in the bits.
    fn micros(&self, now: Timestamp) -> u64 {
        let last = TIME_MASK - 2 * self.quota.refill_us();
        now.as_millis().saturating_sub(self.origin.as_millis()).saturating_mul(1_000).min(last)
    }
}

impl CacheLine {
    /// Returns the slot for `tag`: its own, or else the one closest to full.
    fn find(&self, tag: u64, now: u64) -> (&AtomicU64, u64) {
        let mut best = (&self.0[0], self.0[0].load(Ordering::Relaxed));
        for slot in &self.0 {
            let value = slot.load(Ordering::Relaxed);
            if value >> TIME_BITS == tag {
                return (slot, value);
            }
            let (time, best_time) = ((value & TIME_MASK).max(now), (best.1 & TIME_MASK).max(now));
            if time < best_time {
                best = (slot, value);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(NOW + millis)
    }

    fn quota(burst: u32, per_ms: u64) -> Quota {
        Quota::new(NonZeroU32::new(burst).unwrap(), Duration::from_millis(per_ms)).unwrap()
    }

    fn limiter(quota: Quota, keys: u32) -> RateLimiter {
        RateLimiter::new(quota, NonZeroU32::new(keys).unwrap(), at(0))
    }

    fn allowed(decision: Decision) -> bool {
        matches!(decision, Decision::Allowed { .. })
    }

    #[test]
    fn a_burst_passes_and_comes_back_evenly() {
        let limiter = limiter(quota(3, 300), 100);
        for remaining in [2, 1, 0] {
            assert_eq!(limiter.check(1, at(0)), Decision::Allowed { remaining });
        }
        assert_eq!(limiter.check(1, at(0)), Decision::Limited { retry_after: Duration::from_millis(100) });
        assert_eq!(limiter.check(1, at(99)), Decision::Limited { retry_after: Duration::from_millis(1) });
        assert_eq!(limiter.check(1, at(100)), Decision::Allowed { remaining: 0 });
        assert!(!allowed(limiter.check(1, at(199))));
        assert_eq!(
            limiter.check(1, at(10_000)),
            Decision::Allowed { remaining: 2 },
            "quota does not accumulate"
        );
        assert_eq!(limiter.check(2, at(10_000)), Decision::Allowed { remaining: 2 }, "each key has its own");
    }

    #[test]
    fn what_was_used_comes_back() {
        let limiter = limiter(quota(3, 300), 100);
        assert_eq!(limiter.used(1, at(0)), 0);
        for used in 1..=3 {
            assert!(allowed(limiter.check(1, at(0))));
            assert_eq!(limiter.used(1, at(0)), used);
        }
        assert!(!allowed(limiter.check(1, at(0))), "refused requests are not counted");
        let left = [0, 99, 100, 200, 299, 300, 9_999].map(|millis| limiter.used(1, at(millis)));
        assert_eq!(left, [3, 3, 2, 1, 1, 0, 0]);
        assert_eq!(limiter.used(2, at(0)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let limiter = limiter(quota(2, 200), 100);
        assert!(allowed(limiter.check(1, at(3_600_000))));
        assert!(allowed(limiter.check(1, at(3_600_000))));
        assert_eq!(
            limiter.check(1, at(1_000)),
            Decision::Limited { retry_after: Duration::from_millis(100) }
        );
        let before_the_start = Timestamp::from_millis(NOW - 5_000);
        assert!(matches!(limiter.check(1, before_the_start), Decision::Limited { .. }));
        assert!(allowed(limiter.check(9, before_the_start)));
    }

    #[test]
    fn the_end_of_time_limits_without_panicking() {
        let limiter = limiter(quota(2, 200), 100);
        assert_eq!(limiter.check(1, Timestamp::MAX), Decision::Allowed { remaining: 1 });
        assert_eq!(limiter.check(1, Timestamp::MAX), Decision::Allowed { remaining: 0 });
        assert!(!allowed(limiter.check(1, Timestamp::MAX)));
    }

    #[test]
    fn quotas_finer_than_the_clock_are_refused() {
        let quota = |burst, per| Quota::new(NonZeroU32::new(burst).unwrap(), per);
        assert!(quota(1_000_001, Duration::from_secs(1)).is_err());
        assert!(quota(1, Duration::ZERO).is_err());
        assert!(quota(1, MAX_PERIOD + Duration::from_secs(1)).is_err());
        assert!(quota(1_000_000, Duration::from_secs(1)).is_ok());
        assert_eq!(quota(3, Duration::from_secs(1)).unwrap().interval(), Duration::from_micros(333_334));
        let longest = quota(u32::MAX, MAX_PERIOD).unwrap();
        assert!(longest.refill_us() < TIME_MASK / 4, "leaves room in a slot");
    }

    #[test]
    fn as_many_keys_as_stated_are_served() {
        let limiter = limiter(quota(5, 1_000), 10_000);
        let refused = (0..10_000).filter(|key| !allowed(limiter.check(*key, at(0)))).count();
        assert_eq!(refused, 0);
        let bytes = limiter.lines.len() * size_of::<CacheLine>();
        assert!((160_000..=320_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn threads_share_one_quota() {
        let limiter = limiter(quota(1_000, 1_000), 10);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| allowed(limiter.check(7, at(0)))).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }

    /// An exact token bucket: a request costs `per` units, and each microsecond adds `burst`.
    #[derive(Clone, Copy)]
    struct Bucket {
        level: u64,
        filled_at: u64,
    }

    #[derive(Default)]
    struct Model(HashMap<u64, Bucket>);

    impl Model {
        /// Returns the bucket of a key, filled up to `now`.
        fn bucket(&mut self, key: u64, now_ms: u64, burst: u64, per_us: u64) -> &mut Bucket {
            let full = burst * per_us;
            let bucket = self.0.entry(key).or_insert(Bucket { level: full, filled_at: now_ms });
            bucket.level = full.min(bucket.level + (now_ms - bucket.filled_at) * 1_000 * burst);
            bucket.filled_at = now_ms;
            bucket
        }
    }

    fn requests(keys: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec(
            (0..keys, prop_oneof![3 => Just(0_u64), 2 => 0..30_u64, 1 => 0..3_000_u64]),
            1..300,
        )
    }

    proptest! {
        #[test]
        fn one_key_is_limited_exactly(burst in 1_u32..20, interval_ms in 1_u64..100, requests in requests(1)) {
            let per_ms = interval_ms * u64::from(burst);
            let limiter = limiter(quota(burst, per_ms), 1);
            let (mut model, mut now) = (Model::default(), 0);
            for (key, later) in requests {
                now += later;
                let per_us = per_ms * 1_000;
                let bucket = model.bucket(key, now, u64::from(burst), per_us);
                let expected = if bucket.level >= per_us {
                    bucket.level -= per_us;
                    Decision::Allowed { remaining: u32::try_from(bucket.level / per_us).unwrap() }
                } else {
                    let missing = (per_us - bucket.level).div_ceil(u64::from(burst));
                    Decision::Limited { retry_after: Duration::from_micros(missing) }
                };
                prop_assert_eq!(limiter.check(key, at(now)), expected);
            }
        }

        #[test]
        fn no_key_gets_more_than_its_quota_however_full_the_table(
            burst in 1_u32..6, per_ms in 7_u64..2_000, requests in requests(40)
        ) {
            let limiter = limiter(quota(burst, per_ms), 1);
            let (mut model, mut now) = (Model::default(), 0);
            for (key, later) in requests {
                now += later;
                let bucket = model.bucket(key, now, u64::from(burst), per_ms * 1_000);
                if allowed(limiter.check(key, at(now))) {
                    prop_assert!(bucket.level >= per_ms * 1_000, "key {} at {} ms", key, now);
                    bucket.level -= per_ms * 1_000;
                }
            }
        }

        #[test]
        fn keys_do_not_disturb_each_other_while_there_is_room(burst in 1_u32..6, requests in requests(8)) {
            // Eight keys fit one line, so only equal tags could interfere: 1 in 10⁸ tables.
            let limiter = limiter(quota(burst, 100 * u64::from(burst)), 100_000);
            let (mut alone, mut now) = (HashMap::new(), 0);
            for (key, later) in requests {
                now += later;
                let own = alone.entry(key).or_insert_with(|| self::limiter(limiter.quota(), 1));
                prop_assert_eq!(limiter.check(key, at(now)), own.check(key, at(now)));
            }
        }

        #[test]
        fn a_repeat_after_the_stated_time_passes(burst in 1_u32..6, per_ms in 6_u64..2_000, first in 0_u64..50) {
            let limiter = limiter(quota(burst, per_ms), 10);
            let mut now = first;
            for _ in 0..20 {
                if let Decision::Limited { retry_after } = limiter.check(3, at(now)) {
                    prop_assert!(retry_after > Duration::ZERO && retry_after <= limiter.quota().interval());
                    now += u64::try_from(retry_after.as_micros().div_ceil(1_000)).unwrap();
                    prop_assert!(allowed(limiter.check(3, at(now))));
                }
            }
        }
    }
}
