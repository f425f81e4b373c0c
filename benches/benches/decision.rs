//! Decisions of the state machine, without threads, channels or disk: a new buyer's request, its
//! replay, a request after the last unit, a cancellation. Times are per batch.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flashsale_benches::sale;
use flashsale_core::{
    domain::{Clock as _, OrderKey, SystemClock, Timestamp},
    ledger::{
        Advance, Advanced, BatchId, LedgerRole, Outcome, Reserve,
        state_machine::{Batch, StateMachine},
    },
};

/// Each state machine handles this many orders before a new one replaces it, outside the timing.
const ORDERS: u64 = 100_000;

fn decisions(criterion: &mut Criterion) {
    let now = SystemClock.now();
    let first = sale::requests(0..ORDERS);
    let later = sale::requests(ORDERS..2 * ORDERS);
    let cancels: Vec<_> = first.iter().map(cancel).collect();
    let reserve = |machine: &mut StateMachine, requests: &[Reserve]| {
        machine
            .reserve(Batch { id: BatchId(1), now }, sale::lane(), None, requests)
            .expect("the lane is open")
            .outcomes
    };
    let sold = || {
        let mut machine = opened(now);
        let outcomes = reserve(&mut machine, &first);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Reserved { .. })));
        machine
    };
    assert!(matches!(reserve(&mut sold(), &first[..1])[..], [Outcome::Replayed { .. }]));
    assert!(matches!(reserve(&mut sold(), &later[..1])[..], [Outcome::SoldOut { .. }]));
    let advance = |machine: &mut StateMachine, steps: &[Advance]| {
        machine
            .advance(Batch { id: BatchId(1), now }, sale::lane(), steps)
            .expect("the lane is open")
            .outcomes
    };
    assert!(matches!(advance(&mut sold(), &cancels[..1])[..], [Advanced::Done(_)]));

    bench(criterion, "decision/reserve/accepted", &first, || opened(now), reserve);
    bench(criterion, "decision/reserve/replayed", &first, sold, reserve);
    bench(criterion, "decision/reserve/sold out", &later, sold, reserve);
    bench(criterion, "decision/advance/cancel", &cancels, sold, advance);
}

/// Creates a state machine with `ORDERS` units on sale.
fn opened(now: Timestamp) -> StateMachine {
    let mut machine = StateMachine::new(LedgerRole::Single);
    let units = u32::try_from(ORDERS).expect("fits");
    machine.open(Batch { id: BatchId(0), now }, &sale::terms(units)).expect("not open yet");
    machine
}

fn cancel(request: &Reserve) -> Advance {
    Advance::Cancel {
        order: OrderKey { activity: sale::lane().activity, user: request.user, id: request.order },
        by: None,
    }
}

/// Feeds the items to a state machine in batches. No machine sees an item twice.
fn bench<I, O>(
    criterion: &mut Criterion,
    name: &str,
    items: &[I],
    machine: impl Fn() -> StateMachine,
    decide: impl Fn(&mut StateMachine, &[I]) -> Vec<O>,
) {
    let mut group = criterion.benchmark_group(name);
    for size in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut left, mut spent) = (iterations, Duration::ZERO);
                while left > 0 {
                    let mut machine = machine();
                    let batches = items.chunks(size).take(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= batches.len() as u64;
                    let began = Instant::now();
                    for batch in batches {
                        black_box(decide(&mut machine, batch));
                    }
                    spent += began.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = decisions
}
criterion_main!(benches);
