//! Bounds of memory: room reserved before a sale, and outboxes behind a consumer that stands still.

use super::*;
use crate::{
    domain::{Attribution, Selling},
    ledger::{Change, ChangeId, Consumer},
};

/// A time after the window.
const LATER: Timestamp = Timestamp::from_millis(20_000_000);

fn engine(room_bytes: u64, clock: &Arc<ManualClock>) -> (tempfile::TempDir, EmbeddedLedger) {
    let directory = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        room_bytes,
        ..EmbeddedOptions::new(directory.path(), LedgerRole::Single, Arc::clone(clock) as _)
    };
    (directory, EmbeddedLedger::open(options).unwrap())
}

/// The terms of another activity, over this many buckets, with a limit per user.
fn large(number: u64, units: u32, buckets: u16) -> Arc<Terms> {
    let limit = LimitRule::new(Subject::User, Per::Offer, 2).unwrap();
    let offer = terms(units).offers()[0].clone().with_limits(vec![limit]).unwrap();
    let (window, buckets) = (terms(units).window(), NonZeroU16::new(buckets).unwrap());
    let activity = ActivityId::new(number).unwrap();
    Arc::new(Terms::new(activity, window, buckets, Timing::default(), vec![offer]).unwrap())
}

/// The memory that all lanes have for orders, in bytes.
async fn in_use(engine: &EmbeddedLedger) -> u64 {
    engine.call(|machine, _| Ok(machine.room_in_use())).await.unwrap()
}

#[tokio::test]
async fn many_large_activities_stay_within_the_budget_and_give_it_back() {
    const BUDGET: u64 = 100 << 20;
    let clock = Arc::new(ManualClock::new(NOW));
    let (_directory, engine) = engine(BUDGET, &clock);
    let mut before = 0;
    for number in 1..=8 {
        engine.open(large(number, 200_000, if number == 2 { 8 } else { 1 })).await.unwrap();
        let (in_use, taken) = (in_use(&engine).await, BUDGET - engine.room.left());
        assert!(in_use <= taken, "{in_use} bytes are reserved, {taken} are counted");
        assert!(in_use * 10 >= taken * 9, "{taken} bytes are counted, only {in_use} are reserved");
        assert!(number > 2 || taken > before, "activity {number} got nothing");
        before = taken;
    }
    assert!(engine.room.left() < BUDGET / 16, "there was more to take");

    // By an operator, and by the end of the window.
    sell(&engine, 1..=3).await.unwrap();
    let end = Change::Selling(Selling::Ended);
    let by = Attribution { actor: "test".parse().unwrap(), reason: "over".parse().unwrap() };
    engine.amend(activity(), ChangeId(1), end, by).await.unwrap();
    assert!(engine.room.left() > BUDGET / 5, "what was ended keeps its room");
    clock.set(LATER);
    assert_eq!(orders(&engine).await, (1..=3).collect());
    assert_eq!(engine.room.left(), BUDGET);
    // One chunk of rows, and indices for three orders.
    assert!(in_use(&engine).await < 1 << 20);
    engine.open(large(9, 200_000, 1)).await.unwrap();
    assert_eq!(engine.room.left(), BUDGET, "it is over");
}

#[tokio::test]
async fn the_lanes_of_an_activity_share_the_room_of_its_units() {
    let clock = Arc::new(ManualClock::new(NOW));
    let room = async |buckets| {
        let (_directory, engine) = engine(4 << 30, &clock);
        engine.open(large(1, 200_000, buckets)).await.unwrap();
        (in_use(&engine).await, (4 << 30) - engine.room.left())
    };
    let (one, shared) = (room(1).await, room(16).await);
    assert!(shared.0 < one.0 * 3 / 2 && shared.1 < one.1 * 3 / 2, "{one:?} in one lane, {shared:?} in 16");

    // With room for half of the orders, each lane gets the same.
    let (_directory, engine) = engine(one.1 / 2, &clock);
    engine.open(large(1, 200_000, 16)).await.unwrap();
    let rooms = engine.call(|machine, _| Ok(machine.rooms(ActivityId::new(1).unwrap()))).await.unwrap();
    assert_eq!(rooms.len(), 16);
    assert!(rooms.iter().all(|room| *room == rooms[0] && *room > 3_000), "{rooms:?}");
}

#[tokio::test]
async fn a_restart_takes_room_again_but_not_for_what_is_over() {
    let clock = Arc::new(ManualClock::new(NOW));
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let options = EmbeddedOptions {
            room_bytes: 64 << 20,
            ..EmbeddedOptions::new(directory.path(), LedgerRole::Single, Arc::clone(&clock) as _)
        };
        EmbeddedLedger::open(options).unwrap()
    };
    let engine = open();
    engine.open(large(1, 100_000, 1)).await.unwrap();
    engine.open(large(2, 1_000_000, 4)).await.unwrap();
    drop(engine);
    let engine = open();
    assert!(engine.room.left() < 20 << 20);
    assert!(in_use(&engine).await <= (64 << 20) - engine.room.left());
    drop(engine);
    clock.set(LATER);
    assert_eq!(open().room.left(), 64 << 20);
}

#[tokio::test]
async fn a_sale_without_room_sells_everything() {
    let clock = Arc::new(ManualClock::new(NOW));
    let (_directory, engine) = engine(0, &clock);
    engine.open(large(1, 20_000, 1)).await.unwrap();
    assert!(in_use(&engine).await < 1 << 10);
    let requests: Vec<_> = (1..=20_100).map(request).collect();
    let mut reserved = 0;
    for batch in requests.chunks(3_000) {
        let answer = engine.reserve(lane(), None, batch.to_vec()).await.unwrap();
        reserved += answer.outcomes.iter().filter(|outcome| outcome.order().is_some()).count();
    }
    assert_eq!(reserved, 20_000);
    assert_eq!(orders(&engine).await, (1..=20_000).collect());
    // Nothing was given back that is needed.
    clock.set(LATER);
    assert_eq!(orders(&engine).await, (1..=20_000).collect());
}

#[tokio::test]
async fn orders_are_found_after_their_indices_became_smaller() {
    let clock = Arc::new(ManualClock::new(NOW));
    let (_directory, engine) = engine(1 << 30, &clock);
    engine.open(large(1, 500_000, 1)).await.unwrap();
    let batch: Vec<_> = (1..=4_000).map(request).collect();
    engine.reserve(lane(), None, batch.clone()).await.unwrap();
    let before = engine.inspect(activity()).await.unwrap();
    let reserved = in_use(&engine).await;
    clock.set(LATER);
    engine.call(|_, _| Ok(())).await.unwrap();
    assert!(in_use(&engine).await * 20 < reserved, "{} of {reserved} bytes", in_use(&engine).await);
    assert_eq!(engine.inspect(activity()).await.unwrap(), before);
    let again = engine.reserve(lane(), None, batch).await.unwrap();
    assert!(again.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Replayed { .. })));
    let order =
        |n| OrderKey { activity: activity(), user: UserId::new(n).unwrap(), id: OrderId::new(n).unwrap() };
    for n in [1, 2_000, 4_000] {
        assert!(engine.order(order(n)).await.unwrap().is_some());
        let cancel = Advance::Cancel { order: order(n), by: None };
        let answer = engine.advance(lane(), vec![cancel]).await.unwrap();
        assert!(matches!(answer.outcomes[..], [Advanced::Done(_)]));
    }
    assert_eq!(orders(&engine).await.len(), 4_000);
    let view = engine.view(lane()).await.unwrap();
    assert!((1..=4_000).all(|n| view.buyers.as_ref().unwrap().may_contain(UserId::new(n).unwrap())));
}

#[tokio::test]
async fn a_consumer_that_stands_still_stops_new_orders_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let open =
        || EmbeddedLedger::open(EmbeddedOptions { max_unread: 10, ..options(directory.path()) }).unwrap();
    let engine = open();
    let [audit, other] = ["audit", "other"].map(Consumer::new);
    engine.register(&audit).await.unwrap();
    engine.register(&other).await.unwrap();
    engine.open(terms(100)).await.unwrap();
    // With the opening, these are eleven entries.
    sell(&engine, 1..=10).await.unwrap();
    let last = engine.events(&other, lane(), None, 100).await.unwrap().pop().unwrap();
    engine.ack(&other, lane(), last.position).await.unwrap();

    let is_full = |answer: Result<_, LedgerError>| {
        let Err(LedgerError::Unavailable(reason)) = answer else { panic!("{answer:?}") };
        assert!(reason.contains("audit") && reason.contains("11 entries"), "{reason}");
    };
    let stock = engine.stock(activity(), SkuId::new(7).unwrap()).await.unwrap();
    is_full(engine.reserve(lane(), None, vec![request(1), request(11), request(12)]).await);
    assert_eq!(engine.stock(activity(), SkuId::new(7).unwrap()).await.unwrap(), stock);
    // Replays, refusals, and what happens to orders go on.
    let answer = engine.reserve(lane(), None, vec![request(1), unknown_offer()]).await.unwrap();
    assert!(matches!(answer.outcomes[..], [Outcome::Replayed { .. }, Outcome::UnknownOffer]));
    for n in 1..=5 {
        let order =
            OrderKey { activity: activity(), user: UserId::new(n).unwrap(), id: OrderId::new(n).unwrap() };
        let answer = engine.advance(lane(), vec![Advance::Cancel { order, by: None }]).await.unwrap();
        assert!(matches!(answer.outcomes[..], [Advanced::Done(_)]));
    }
    // Nothing was dropped, and a restart changes nothing.
    drop(engine);
    let engine = open();
    assert_eq!(engine.events(&audit, lane(), None, 100).await.unwrap().len(), 16);
    assert!(engine.reserve(lane(), None, vec![request(11)]).await.is_err());

    let last = engine.events(&audit, lane(), None, 100).await.unwrap().pop().unwrap();
    engine.ack(&audit, lane(), last.position).await.unwrap();
    // Now the other one stands still, five entries behind; six more are one too many.
    sell(&engine, 11..=16).await.unwrap();
    let answer = engine.reserve(lane(), None, vec![request(17)]).await;
    assert!(matches!(&answer, Err(error) if error.to_string().contains("other")), "{answer:?}");
    engine.retire(&other).await.unwrap();
    sell(&engine, 17..=20).await.unwrap();
    assert_eq!(orders(&engine).await, (1..=20).collect());
}

fn unknown_offer() -> Reserve {
    Reserve { sku: SkuId::new(8).unwrap(), ..request(11) }
}
