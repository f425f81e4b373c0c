//! Hot-path parts without I/O: ids, tickets, the limiter and decisions.

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use flashsale_core::{
    admission::{Claims, TicketKey, TicketKeys},
    domain::{ActivityId, Clock as _, Name, SkuId, SystemClock, UserId},
    ledger::{
        BatchId, LedgerRole, Outcome,
        state_machine::{Batch, StateMachine},
    },
    rate_limiter::{Quota, RateLimiter},
};

use crate::{
    Failure,
    ids::{self, FerroidSystem},
    machine,
    report::{count, figure, median, progress, ratio},
    sale,
};

/// Prints nanoseconds per operation.
pub(super) fn run() -> Result<(), Failure> {
    progress("in-memory parts: ids, tickets, rate limiter, decisions");
    snowflake();
    tickets()?;
    limiter()?;
    decisions()
}

/// Ids per burst from a new generator. More than fit in 1 ms would wait for the clock.
const BURST: u32 = 4_000;
const BURSTS: usize = 500;
const TAKEN_AT_ONCE: u32 = 250;

fn snowflake() {
    let next = burst(
        || ids::ours(Arc::new(SystemClock)),
        |ids| {
            black_box(ids.next().expect("ids available"));
        },
        1,
    );
    let take = burst(
        || ids::ours(Arc::new(SystemClock)),
        |ids| {
            ids.take(TAKEN_AT_ONCE).expect("ids available").for_each(|id| {
                black_box(id);
            });
        },
        TAKEN_AT_ONCE,
    );
    let snowflaked = burst(
        || snowflaked::sync::Generator::new(1),
        |ids| {
            black_box(ids.generate::<u64>());
        },
        1,
    );
    let ferroid = burst(
        || ids::ferroid(FerroidSystem),
        |ids| {
            black_box(ids.next_id(|_| std::hint::spin_loop()));
        },
        1,
    );
    let rs_snowflake = burst(
        || snowflake::SnowflakeIdGenerator::new(1, 1),
        |ids| {
            black_box(ids.real_time_generate());
        },
        1,
    );
    figure("snowflake.next", next, "ns");
    figure("snowflake.take", take, "ns");
    for (name, theirs) in [("snowflaked", snowflaked), ("ferroid", ferroid), ("rs-snowflake", rs_snowflake)] {
        figure(&format!("{name}.next"), theirs, "ns");
        ratio(&format!("snowflake.next_vs_{name}"), theirs / next);
        ratio(&format!("snowflake.take_vs_{name}"), theirs / take);
    }
}

/// Nanoseconds per id, if each `step` makes `at_once` ids.
fn burst<G>(generator: impl Fn() -> G, step: impl Fn(&mut G), at_once: u32) -> f64 {
    let once = || {
        let mut generator = generator();
        let began = Instant::now();
        for _ in 0..BURST / at_once {
            step(&mut generator);
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(BURST)
    };
    median((0..BURSTS).map(|_| once()).collect())
}

fn tickets() -> Result<(), Failure> {
    let keys = TicketKeys::new(TicketKey::new(2, [2; 32])?, [TicketKey::new(1, [1; 32])?])?;
    let now = SystemClock.now();
    let expires = now.after(Duration::from_secs(120));
    let claims = Claims {
        activity: ActivityId::new(1_001).expect("not zero"),
        sku: SkuId::new(2_002).expect("not zero"),
        user: UserId::new(3_003).expect("not zero"),
        user_name: Name::new("Li Lei")?,
        device: None,
    };
    let ticket = keys.issue(claims.clone(), now, expires)?.text;
    keys.verify(&ticket, now, None)?;
    figure(
        "ticket.issue",
        nanos(100_000, |_| keys.issue(black_box(claims.clone()), now, expires).is_ok()),
        "ns",
    );
    figure("ticket.verify", nanos(100_000, |_| keys.verify(black_box(&ticket), now, None).is_ok()), "ns");
    Ok(())
}

fn limiter() -> Result<(), Failure> {
    const KEYS: u32 = 1_000_000;

    let now = SystemClock.now();
    let quota = Quota::new(NonZeroU32::new(10).ok_or("not zero")?, Duration::from_secs(1))?;
    let limiter = RateLimiter::new(quota, NonZeroU32::new(KEYS).ok_or("not zero")?, now);
    let check = |n: u64| {
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % u64::from(KEYS);
        limiter.check(black_box(key), now.after(Duration::from_millis(n / 1_000)))
    };
    figure("limiter.check", nanos(1_000_000, check), "ns");
    Ok(())
}

/// The state machine alone, without threads, channels or disk, in CPU time.
fn decisions() -> Result<(), Failure> {
    const ORDERS: u64 = 200_000;
    const BATCH: usize = 1_000;
    const RUNS: u64 = 5;

    let now = SystemClock.now();
    let requests = sale::requests(0..ORDERS);
    let later = sale::requests(ORDERS..2 * ORDERS);
    let decide = |ledger: &mut StateMachine, requests: &[_], expected: fn(&Outcome) -> bool| {
        let mut room = Vec::new();
        let before = machine::thread_time();
        for (number, requests) in (0..).zip(requests.chunks(BATCH)) {
            let answer = ledger.reserve(Batch { id: BatchId(number), now }, sale::lane(), None, requests)?;
            if !answer.outcomes.iter().all(expected) {
                return Err("an outcome differs from the one to be measured".into());
            }
            room = ledger.take_journal(room);
            room.clear();
        }
        Ok::<_, Failure>((machine::thread_time() - before).as_secs_f64() * 1e9 / count(ORDERS))
    };
    let (mut reserved, mut journalled, mut replayed, mut sold_out) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let mut ledger = StateMachine::new(LedgerRole::Single);
        ledger.open(Batch { id: BatchId(0), now }, &sale::terms(u32::try_from(ORDERS)?))?;
        reserved.push(decide(&mut ledger, &requests, |outcome| matches!(outcome, Outcome::Reserved { .. }))?);
        replayed.push(decide(&mut ledger, &requests, |outcome| matches!(outcome, Outcome::Replayed { .. }))?);
        sold_out.push(decide(&mut ledger, &later, |outcome| matches!(outcome, Outcome::SoldOut { .. }))?);

        let mut ledger = StateMachine::new(LedgerRole::Single);
        ledger.open(Batch { id: BatchId(0), now }, &sale::terms(u32::try_from(ORDERS)?))?;
        ledger.journal();
        journalled
            .push(decide(&mut ledger, &requests, |outcome| matches!(outcome, Outcome::Reserved { .. }))?);
    }
    figure("decision.reserve", median(reserved), "ns");
    figure("decision.reserve_journalled", median(journalled), "ns");
    figure("decision.replayed", median(replayed), "ns");
    figure("decision.sold_out", median(sold_out), "ns");
    Ok(())
}

/// CPU time of one call in nanoseconds: the median of several series.
fn nanos<T>(calls: u64, call: impl Fn(u64) -> T) -> f64 {
    const SERIES: u64 = 7;

    let series = |series: u64| {
        let before = machine::thread_time();
        for n in 0..calls {
            black_box(call(series * calls + n));
        }
        (machine::thread_time() - before).as_secs_f64() * 1e9 / count(calls)
    };
    median((0..SERIES).map(series).collect())
}
