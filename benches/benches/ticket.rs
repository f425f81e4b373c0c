//! Tickets: the cost of issuing one, and of the check that precedes everything else in a purchase.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use flashsale_core::{
    admission::{Claims, TicketError, TicketKey, TicketKeys},
    domain::{ActivityId, Clock as _, Name, SkuId, SubjectId, SystemClock, UserId},
};

fn tickets(criterion: &mut Criterion) {
    let key = |id, byte| TicketKey::new(id, [byte; 32]).expect("not zero");
    let keys = TicketKeys::new(key(2, 2), [key(1, 1)]).expect("distinct key ids");
    let now = SystemClock.now();
    let expires = now.after(Duration::from_secs(120));
    let claims = Claims {
        activity: ActivityId::new(1_001).expect("an id"),
        sku: SkuId::new(2_002).expect("an id"),
        user: UserId::new(3_003).expect("an id"),
        user_name: Name::new("Li Lei").expect("a name"),
        device: None,
    };
    let device = SubjectId(42);
    let free = keys.issue(claims.clone(), now, expires).expect("randomness").text;
    let bound = Claims { device: Some(device), ..claims.clone() };
    let bound = keys.issue(bound, now, expires).expect("randomness").text;
    let mut forged = free.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    assert_eq!(keys.verify(&forged, now, None), Err(TicketError::NotAuthentic));

    let mut group = criterion.benchmark_group("ticket");
    group.bench_function("issue", |bencher| {
        bencher.iter(|| keys.issue(black_box(claims.clone()), now, expires).expect("randomness"));
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| keys.verify(black_box(&free), now, None).expect("authentic"));
    });
    group.bench_function("verify, bound to a device", |bencher| {
        bencher.iter(|| keys.verify(black_box(&bound), now, Some(device)).expect("authentic"));
    });
    group.bench_function("refuse a forged one", |bencher| {
        bencher.iter(|| keys.verify(black_box(&forged), now, None).expect_err("forged"));
    });
    group.finish();
}

criterion_group!(benches, tickets);
criterion_main!(benches);
