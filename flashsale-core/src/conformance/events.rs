//! Events: the outbox of each lane, and its consumers.

use super::{
    case::cases,
    failure::Failure,
    make::{self, offer},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::Strategy,
    ledger::{BatchId, Consumer, Entry, Event, LedgerCalls as _, OrderChange, Outcome, Position},
};

cases! {
    Deciding:
        events_are_numbered_without_gaps,
        declined_requests_and_replays_write_no_events,
        an_event_is_at_the_position_in_the_answer,
        events_record_what_happened,
        reading_starts_at_the_last_acknowledged_entry,
        reading_from_a_position_includes_that_entry,
        consumers_read_at_their_own_pace,
        unacknowledged_entries_are_never_dropped,
        acknowledging_an_unknown_position_does_nothing,
        a_late_consumer_reads_from_its_registration_on,
        a_retired_consumer_is_forgotten,
        an_unknown_consumer_is_rejected;
    Buckets:
        each_lane_numbers_its_own_events;
}

fn consumer(name: &str) -> Consumer {
    Consumer::new(name)
}

async fn register(scene: &mut Scene, name: &str) -> Check {
    scene.note(format!("register {name}"));
    scene.ok("register", scene.ledger().register(&consumer(name)).await)
}

async fn read(
    scene: &Scene,
    name: &str,
    from: Option<Position>,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let entries = scene.ledger().events(&consumer(name), scene.lane(1), from, limit).await;
    scene.ok("events", entries)
}

async fn ack(scene: &mut Scene, name: &str, position: Position) -> Check {
    scene.note(format!("{name} acknowledges {position:?}"));
    scene.ok("ack", scene.ledger().ack(&consumer(name), scene.lane(1), position).await)
}

fn sequences(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.sequence).collect()
}

/// Opens a sale with a consumer `mail` and four entries: `Opened` and three orders.
async fn sale(scene: &mut Scene) -> Result<Vec<Entry>, Failure> {
    register(scene, "mail").await?;
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    for _ in 0..3 {
        scene.place(1).await?;
    }
    let entries = read(scene, "mail", None, 99).await?;
    scene.same("sequences", vec![1, 2, 3, 4], sequences(&entries))?;
    Ok(entries)
}

async fn events_are_numbered_without_gaps(scene: &mut Scene) -> Check {
    sale(scene).await?;
    let order = scene.place(1).await?;
    scene.pay(&order).await?;
    scene.refund(&order, true, "done paid").await?;
    scene.adjust("more", 1, "done").await?;
    scene.amend(make::limits(1, &[])).await?;
    scene.time(100).await?;
    scene.expire(1, (3, 0)).await?;
    let entries = read(scene, "mail", None, 99).await?;
    scene.same("sequences", (1..=13).collect::<Vec<_>>(), sequences(&entries))?;
    let times = entries.windows(2).all(|pair| pair[0].at <= pair[1].at);
    scene.holds("times never go back", times, entries.iter().map(|entry| entry.at).collect::<Vec<_>>())
}

async fn declined_requests_and_replays_write_no_events(scene: &mut Scene) -> Check {
    sale(scene).await?;
    let ask = scene.ask(1);
    scene.place_ask(ask).await?;
    scene.reserve(ask, "replayed pending").await?;
    scene.reserve(ask.units(2), "key_reused").await?;
    let many = scene.ask(1).units(10);
    scene.reserve(many, "sold_out 5").await?;
    let order = scene.place(1).await?;
    scene.cancel(&order, "done cancelled").await?;
    scene.cancel(&order, "replayed cancelled").await?;
    scene.refund(&order, true, "wrong_state cancelled").await?;
    scene.adjust("all", -99, "insufficient 5").await?;
    scene.adjust("one", 1, "done").await?;
    scene.adjust("one", 1, "replayed").await?;
    scene.expire(1, (0, 0)).await?;
    let entries = read(scene, "mail", None, 99).await?;
    scene.same("sequences", (1..=8).collect::<Vec<_>>(), sequences(&entries))
}

async fn an_event_is_at_the_position_in_the_answer(scene: &mut Scene) -> Check {
    sale(scene).await?;
    let asks = vec![scene.ask(1), scene.ask(1), scene.ask(1)];
    let outcomes = scene.reserve_all(asks, None).await?;
    let entries = read(scene, "mail", None, 99).await?;
    for outcome in &outcomes {
        let Outcome::Reserved { order, position } = outcome else {
            return Err(scene.failure("reserved", format!("{outcome:?}")));
        };
        let entry = entries.iter().find(|entry| entry.position == *position);
        let id = entry.and_then(|entry| match entry.event {
            Event::Order { id, change: OrderChange::Placed(_), .. } => Some(id),
            _ => None,
        });
        scene.same("order placed at the position in the answer", Some(order.key.id), id)?;
    }
    Ok(())
}

async fn events_record_what_happened(scene: &mut Scene) -> Check {
    sale(scene).await?;
    scene.time(7).await?;
    let ask = scene.ask(3).units(2);
    let order = scene.place_ask(ask).await?;
    scene.open_payment(&order, 5, "done paying").await?;
    scene.capture(&order, 5, 5, "done paid").await?;
    let entries = read(scene, "mail", None, 99).await?;
    scene.holds("the first event is `Opened`", matches!(entries[0].event, Event::Opened(_)), &entries[0])?;
    let mine: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Order { id, user, change } if *id == order.key.id => Some((entry, *user, change)),
            _ => None,
        })
        .collect();
    let [placed, opened, paid] = mine[..] else {
        return Err(scene.failure("three events about the order", format!("{mine:?}")));
    };
    for (entry, user, _) in [placed, opened, paid] {
        scene.same("user of the event", order.key.user, user)?;
        scene.same("time of the entry", scene.moment(7), entry.at)?;
    }
    let OrderChange::Placed(made) = placed.2 else {
        return Err(scene.failure("a `Placed` event", format!("{placed:?}")));
    };
    scene.same(
        "SKU, quantity, amount",
        (order.sku, order.quantity, order.amount),
        (made.sku, made.quantity, made.amount),
    )?;
    scene.same("key", order.idempotency, made.idempotency)?;
    scene.same("deadline", order.deadline, made.deadline)?;
    let OrderChange::PaymentOpened { payment, deadline, .. } = opened.2 else {
        return Err(scene.failure("a `PaymentOpened` event", format!("{opened:?}")));
    };
    scene.same("payment and deadline", (make::payment_id(5), scene.moment(107)), (*payment, *deadline))?;
    let OrderChange::Paid(capture) = paid.2 else {
        return Err(scene.failure("a `Paid` event", format!("{paid:?}")));
    };
    scene.same("capture", &make::capture_of(&order, 5, 5), capture)
}

async fn reading_starts_at_the_last_acknowledged_entry(scene: &mut Scene) -> Check {
    let entries = sale(scene).await?;
    ack(scene, "mail", entries[1].position).await?;
    scene.same("sequences", vec![2, 3, 4], sequences(&read(scene, "mail", None, 99).await?))?;
    scene.same("sequences, at most 2", vec![2, 3], sequences(&read(scene, "mail", None, 2).await?))?;
    ack(scene, "mail", entries[3].position).await?;
    scene.same("sequences after the ack", vec![4], sequences(&read(scene, "mail", None, 99).await?))?;
    // Acknowledging an earlier entry changes nothing.
    ack(scene, "mail", entries[1].position).await?;
    scene.same("sequences", vec![4], sequences(&read(scene, "mail", None, 99).await?))
}

/// A reader that finds another batch id at its position knows that it read another history.
async fn reading_from_a_position_includes_that_entry(scene: &mut Scene) -> Check {
    let entries = sale(scene).await?;
    let from = entries[2].position;
    let read_again = read(scene, "mail", Some(from), 99).await?;
    scene.same("entries", entries[2..].to_vec(), read_again)?;
    let other_history = Position { batch: BatchId(from.batch.0 ^ 0x5555), ..from };
    let read_again = read(scene, "mail", Some(other_history), 99).await?;
    scene.same("position of the first entry", Some(from), read_again.first().map(|entry| entry.position))?;
    let ahead = Position { sequence: 5, ..from };
    scene.same("entries beyond the end", vec![], read(scene, "mail", Some(ahead), 99).await?)
}

async fn consumers_read_at_their_own_pace(scene: &mut Scene) -> Check {
    register(scene, "search").await?;
    let entries = sale(scene).await?;
    ack(scene, "mail", entries[2].position).await?;
    scene.same("read by mail", vec![3, 4], sequences(&read(scene, "mail", None, 99).await?))?;
    scene.same("read by search", vec![1, 2, 3, 4], sequences(&read(scene, "search", None, 99).await?))?;
    register(scene, "search").await?;
    ack(scene, "search", entries[3].position).await?;
    scene.same("read by search", vec![4], sequences(&read(scene, "search", None, 99).await?))?;
    scene.same("read by mail", vec![3, 4], sequences(&read(scene, "mail", None, 99).await?))
}

/// Mistake: a bounded stream silently drops undelivered events.
async fn unacknowledged_entries_are_never_dropped(scene: &mut Scene) -> Check {
    register(scene, "slow").await?;
    register(scene, "fast").await?;
    scene.open(vec![offer(1, Strategy::PreDeduct, 1_000)]).await?;
    let buyer = 1;
    for _ in 0..5 {
        let asks = (0..100).map(|_| scene.ask(buyer)).collect();
        scene.reserve_all(asks, None).await?;
        let last = read(scene, "fast", None, 999).await?.last().map(|entry| entry.position);
        ack(scene, "fast", last.expect("at least one entry")).await?;
    }
    let entries = read(scene, "slow", None, 999).await?;
    scene.same("sequences", (1..=501).collect::<Vec<_>>(), sequences(&entries))?;
    ack(scene, "slow", entries[250].position).await?;
    let entries = read(scene, "slow", None, 999).await?;
    scene.same("sequences", (251..=501).collect::<Vec<_>>(), sequences(&entries))
}

async fn acknowledging_an_unknown_position_does_nothing(scene: &mut Scene) -> Check {
    let entries = sale(scene).await?;
    let there = entries[2].position;
    for position in [
        Position { sequence: 99, ..there },
        Position { batch: BatchId(there.batch.0 ^ 0x5555), ..there },
        Position { epoch: there.epoch.next(), ..there },
        Position { sequence: 0, ..there },
    ] {
        ack(scene, "mail", position).await?;
        scene.same("sequences", vec![1, 2, 3, 4], sequences(&read(scene, "mail", None, 99).await?))?;
    }
    Ok(())
}

async fn a_late_consumer_reads_from_its_registration_on(scene: &mut Scene) -> Check {
    let entries = sale(scene).await?;
    ack(scene, "mail", entries[3].position).await?;
    register(scene, "search").await?;
    scene.place(1).await?;
    scene.place(1).await?;
    ack(scene, "mail", read(scene, "mail", None, 99).await?[2].position).await?;
    let seen = sequences(&read(scene, "search", None, 99).await?);
    scene.holds("the last sequences are 5 and 6", seen.ends_with(&[5, 6]), seen)
}

async fn a_retired_consumer_is_forgotten(scene: &mut Scene) -> Check {
    register(scene, "gone").await?;
    let entries = sale(scene).await?;
    ack(scene, "mail", entries[3].position).await?;
    for _ in 0..2 {
        scene.note("retire gone");
        scene.ok("retire", scene.ledger().retire(&consumer("gone")).await)?;
    }
    scene.same("read by mail", vec![4], sequences(&read(scene, "mail", None, 99).await?))?;
    let result = scene.ledger().events(&consumer("gone"), scene.lane(1), None, 1).await;
    scene.same("events", "error: invalid", name::of_result(&result))?;
    // Registered again, it starts anew with what is written from then on.
    register(scene, "gone").await?;
    scene.place(1).await?;
    let seen = sequences(&read(scene, "gone", None, 99).await?);
    scene.holds("the last sequence is 5", seen.ends_with(&[5]), seen)
}

async fn an_unknown_consumer_is_rejected(scene: &mut Scene) -> Check {
    let entries = sale(scene).await?;
    let (unknown, lane) = (consumer("nobody"), scene.lane(1));
    let result = scene.ledger().events(&unknown, lane, None, 1).await;
    scene.same("events", "error: invalid", name::of_result(&result))?;
    let result = scene.ledger().ack(&unknown, lane, entries[0].position).await;
    scene.same("ack", "error: invalid", name::of_result(&result))?;
    let nowhere = crate::ledger::Lane::first(make::activity(999));
    let result = scene.ledger().events(&consumer("mail"), nowhere, None, 1).await;
    scene.same("events", "error: not open", name::of_result(&result))
}

async fn each_lane_numbers_its_own_events(scene: &mut Scene) -> Check {
    register(scene, "mail").await?;
    scene.open_over(4, vec![offer(1, Strategy::PreDeduct, 40)]).await?;
    for bucket in 0..4 {
        for n in 0..=bucket {
            let buyer = scene.buyer_of(bucket, usize::from(n) + 1);
            scene.place(buyer).await?;
        }
    }
    for lane in scene.lanes() {
        let entries = scene.ok("events", scene.ledger().events(&consumer("mail"), lane, None, 99).await)?;
        let expected: Vec<_> = (1..=2 + u64::from(lane.bucket)).collect();
        scene.same("sequences", expected, sequences(&entries))?;
    }
    Ok(())
}
