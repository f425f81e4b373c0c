//! Truths persist what a gate admitted, or refuse it.

use super::{
    case::cases,
    make::{self, limited, offer, rule},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{Per, Selling, Strategy, Subject},
    ledger::{
        Change, ChangeId, Entry, Epoch, Event, Lane, LedgerCalls as _, OrderChange, PersistMode, Position,
        RefusalReason, Verdict,
    },
};

cases! {
    Truth:
        a_placed_order_is_persisted,
        the_price_is_taken_from_the_offer,
        the_hold_starts_when_the_order_is_persisted,
        redelivered_entries_are_persisted_once,
        entries_must_follow_the_position_without_a_gap,
        salvaging_does_not_move_the_position,
        orders_from_an_older_epoch_are_refused,
        a_refused_order_keeps_its_key_and_ticket,
        an_id_of_another_users_order_is_another_order,
        units_limits_keys_and_tickets_are_checked_again,
        window_pause_and_pay_time_bound_are_not_checked_again,
        the_next_epoch_is_taken_by_compare_and_set,
        content_is_read_in_chunks,
        adjustments_from_the_gate_are_applied_or_refused,
        every_gate_lane_has_its_own_position;
}

const PERSISTED: Verdict = Verdict::Persisted;

fn refused(because: RefusalReason) -> Verdict {
    Verdict::Refused(because)
}

/// Opens a sale over two tiers and lets the gate admit two orders.
async fn admitted(scene: &mut Scene, units: u32) -> Result<(Lane, Position, Vec<Entry>), super::Failure> {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, units)]).await?;
    for buyer in [1, 2] {
        let ask = scene.ask(buyer).units(2);
        scene.admitted(ask).await?;
    }
    let lane = Lane::first(scene.activity());
    let (position, entries) = scene.unpersisted(lane).await?;
    scene.same("entries", 2, entries.len())?;
    Ok((lane, position, entries))
}

async fn a_placed_order_is_persisted(scene: &mut Scene) -> Check {
    let (lane, _, entries) = admitted(scene, 9).await?;
    let Event::Order { id, user, change: OrderChange::Placed(placed) } = &entries[0].event else {
        return Err(scene.failure("a `Placed` event", format!("{entries:?}")));
    };
    scene.same(
        "locate before the order is persisted",
        None,
        scene.ok("locate", scene.truth().locate(None, *id).await)?,
    )?;
    scene.persists(lane, vec![PERSISTED; 2]).await?;
    let order = scene.order(*id, user.value()).await?;
    scene.same("status", "pending", name::of_status(order.status))?;
    scene.same("persisted", true, order.persisted)?;
    scene.same("key", placed.idempotency, order.idempotency)?;
    scene.same("placed at", placed.placed_at, order.placed_at)?;
    scene.truth_stock([5, 4, 0]).await?;
    scene.pay(&order).await?;
    scene.truth_stock([5, 2, 2]).await
}

/// Mistake: the price is taken from the client.
async fn the_price_is_taken_from_the_offer(scene: &mut Scene) -> Check {
    let (lane, position, mut entries) = admitted(scene, 9).await?;
    let Event::Order { id, user, change: OrderChange::Placed(placed) } = &mut entries[0].event else {
        return Err(scene.failure("a `Placed` event", format!("{entries:?}")));
    };
    let (id, user) = (*id, *user);
    placed.amount = crate::domain::Money::new(1, placed.amount.currency()).expect("valid price");
    let verdicts = scene.persist_with(lane, PersistMode::After(position), entries).await;
    scene.ok("persist", verdicts)?;
    let order = scene.order(id, user.value()).await?;
    scene.same("amount", 2 * make::PRICE, order.amount.amount())
}

async fn the_hold_starts_when_the_order_is_persisted(scene: &mut Scene) -> Check {
    let (lane, _, entries) = admitted(scene, 9).await?;
    scene.time(500).await?;
    scene.persist(lane).await?;
    let Event::Order { id, user, .. } = &entries[0].event else {
        return Err(scene.failure("an order event", format!("{entries:?}")));
    };
    let order = scene.order(*id, user.value()).await?;
    scene.same("deadline", Some(scene.moment(600)), order.deadline)?;
    scene.same("placed at", scene.moment(0), order.placed_at)?;
    scene.time(599).await?;
    scene.expire(1, (0, 0)).await?;
    scene.time(600).await?;
    scene.expire(1, (2, 0)).await?;
    scene.truth_stock([9, 0, 0]).await
}

/// Stock is taken and the reply is lost. Entries that are delivered again are applied once.
async fn redelivered_entries_are_persisted_once(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    for expected in ["ok", "error: moved", "error: moved"] {
        let verdicts = scene.persist_with(lane, PersistMode::After(position), entries.clone()).await;
        scene.same("persist", expected, name::of_result(&verdicts))?;
        scene.check().await?;
        scene.truth_stock([5, 4, 0]).await?;
    }
    let verdicts = scene.persist_with(lane, PersistMode::Salvage, entries.clone()).await;
    scene.same("verdicts", vec![PERSISTED; 2], scene.ok("persist", verdicts)?)?;
    scene.truth_stock([5, 4, 0]).await?;
    let now = scene.ok("position", scene.truth().position(lane).await)?;
    scene.same("position", entries[1].position, now)
}

async fn entries_must_follow_the_position_without_a_gap(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let other_batch = Position { batch: crate::ledger::BatchId(position.batch.0 ^ 1), ..position };
    let mut other_epoch = entries.clone();
    other_epoch[1].position.epoch = Epoch(9);
    let wrong = [
        (position, vec![entries[1].clone()]),
        (position, vec![entries[1].clone(), entries[0].clone()]),
        (other_batch, entries.clone()),
        (Position { sequence: position.sequence + 1, ..position }, entries.clone()),
        (position, other_epoch),
    ];
    for (after, entries) in wrong {
        let verdicts = scene.persist_with(lane, PersistMode::After(after), entries).await;
        scene.same("persist", "error: moved", name::of_result(&verdicts))?;
        scene.check().await?;
        scene.truth_stock([9, 0, 0]).await?;
        scene.same("position", position, scene.ok("position", scene.truth().position(lane).await)?)?;
    }
    let one = scene.persist_with(lane, PersistMode::After(position), entries[..1].to_vec()).await;
    scene.same("verdict on the first entry", vec![PERSISTED], scene.ok("persist", one)?)?;
    let two = scene.persist_with(lane, PersistMode::After(entries[0].position), entries[1..].to_vec()).await;
    scene.same("verdict on the second entry", vec![PERSISTED], scene.ok("persist", two)?)?;
    scene.truth_stock([5, 4, 0]).await
}

async fn salvaging_does_not_move_the_position(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let verdicts = scene.persist_with(lane, PersistMode::Salvage, entries[1..].to_vec()).await;
    scene.same("verdicts", vec![PERSISTED], scene.ok("persist", verdicts)?)?;
    scene.same("position", position, scene.ok("position", scene.truth().position(lane).await)?)?;
    scene.truth_stock([7, 2, 0]).await?;
    scene.persists(lane, vec![PERSISTED; 2]).await?;
    scene.truth_stock([5, 4, 0]).await
}

async fn orders_from_an_older_epoch_are_refused(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let verdicts = scene.persist_with(lane, PersistMode::After(position), entries[..1].to_vec()).await;
    scene.ok("persist", verdicts)?;
    let next = scene.next_epoch().await?;
    let opened = Position { epoch: next.epoch, sequence: 1, batch: next.batch };
    scene.same("position", opened, scene.ok("position", scene.truth().position(lane).await)?)?;
    // Persisted orders stay; the others are refused, now and whenever they come again.
    for last in [RefusalReason::StaleEpoch, RefusalReason::Before, RefusalReason::Before] {
        let verdicts = scene.persist_with(lane, PersistMode::Salvage, entries.clone()).await;
        scene.same("verdicts", vec![PERSISTED, refused(last)], scene.ok("persist", verdicts)?)?;
        scene.check().await?;
        scene.truth_stock([7, 2, 0]).await?;
    }
    let verdicts = scene.persist_with(lane, PersistMode::After(opened), entries).await;
    scene.same("persist", "error: moved", name::of_result(&verdicts))
}

async fn a_refused_order_keeps_its_key_and_ticket(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    let order = scene.admitted(ask).await?;
    let lane = Lane::first(scene.activity());
    let (_, entries) = scene.unpersisted(lane).await?;
    scene.next_epoch().await?;
    let verdicts = scene.persist_with(lane, PersistMode::Salvage, entries).await;
    scene.ok("persist", verdicts)?;
    scene.reserve(ask, "replayed refused").await?;
    scene.reserve(ask.units(2), "key_reused").await?;
    let (id, key) = (scene.fresh(), scene.fresh());
    scene.reserve(ask.id(id).key(key.into()), "ticket_used").await?;
    for (step, expected) in [
        (crate::ledger::Advance::Cancel { order: order.key, by: None }, "wrong_state refused"),
        (
            crate::ledger::Advance::OpenPayment {
                order: order.key,
                payment: make::payment_id(1),
                provider: make::provider("sandbox"),
                in_parts: false,
            },
            "wrong_state refused",
        ),
        (
            crate::ledger::Advance::Refund {
                order: order.key,
                refund: make::whole_refund(1),
                by: make::by(),
            },
            "wrong_state refused",
        ),
    ] {
        scene.advance(step, expected).await?;
    }
    scene.truth_stock([9, 0, 0]).await
}

/// Mistake: an order is known by its id, whoever owns it; the second buyer is told that his order is
/// there, and has none.
async fn an_id_of_another_users_order_is_another_order(scene: &mut Scene) -> Check {
    let (lane, position, mut entries) = admitted(scene, 9).await?;
    let Event::Order { id: taken, user: owner, .. } = entries[0].event else {
        return Err(scene.failure("an order event", format!("{entries:?}")));
    };
    let Event::Order { id, user: other, .. } = &mut entries[1].event else {
        return Err(scene.failure("an order event", format!("{entries:?}")));
    };
    *id = taken;
    let other = *other;
    for mode in [PersistMode::After(position), PersistMode::Salvage] {
        let verdicts = scene.persist_with(lane, mode, entries.clone()).await;
        scene.same("verdicts", vec![PERSISTED; 2], scene.ok("persist", verdicts)?)?;
        scene.check().await?;
        scene.truth_stock([5, 4, 0]).await?;
    }
    for user in [owner, other] {
        let order = scene.order(taken, user.value()).await?;
        scene.same("status", "pending", name::of_status(order.status))?;
    }
    Ok(())
}

async fn units_limits_keys_and_tickets_are_checked_again(scene: &mut Scene) -> Check {
    let reasons = [
        RefusalReason::KeyTaken,
        RefusalReason::TicketUsed,
        RefusalReason::LimitReached,
        RefusalReason::SoldOut,
    ];
    for because in reasons {
        let rules = [rule(Subject::User, Per::Offer, 2)];
        scene.open_tiers(1, vec![limited(offer(1, Strategy::PreDeduct, 4), &rules)]).await?;
        // Unknown to the gate: user 1 has an order, and user 2 has reached the limit.
        let (known, full) = (scene.ask(1), scene.ask(2).units(2));
        scene.place_ask(known).await?;
        scene.place_ask(full).await?;
        let ask = match because {
            RefusalReason::KeyTaken => known.id(scene.fresh()),
            RefusalReason::TicketUsed => scene.ask(1).nonce(known.0.idempotency.nonce.0),
            RefusalReason::LimitReached => scene.ask(2),
            _ => scene.ask(3).units(2),
        };
        let order = scene.admitted(ask).await?;
        let lane = Lane::first(scene.activity());
        scene.persists(lane, vec![refused(because)]).await?;
        scene.same("status", Some("refused"), scene.at_truth(&order).await?)?;
        scene.truth_stock([1, 3, 0]).await?;
        let last = scene.unfollowed(lane).await?.pop().map(|entry| entry.event);
        let recorded = matches!(last, Some(Event::Order { change: OrderChange::Refused(_), .. }));
        scene.holds("the last event is `Refused`", recorded, last)?;
    }
    Ok(())
}

/// The gate decides about window and pay-time bound; a pause concerns only new requests.
async fn window_pause_and_pay_time_bound_are_not_checked_again(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PayTime, 2)]).await?;
    let lane = Lane::first(scene.activity());
    let ask = scene.ask(1).units(3);
    scene.admitted(ask).await?;
    // With this pending order, the bound at the truth is too small for the gate's order.
    let direct = scene.ask(2).units(2);
    scene.place_ask(direct).await?;
    for (id, change) in [
        (1, Change::Selling(Selling::Paused)),
        (2, Change::Window(make::window(scene.moment(0).before(make::seconds(9)), scene.moment(0)))),
    ] {
        let amended = scene.truth().amend(scene.activity(), ChangeId(id), change, make::by()).await;
        scene.ok("amend", amended)?;
    }
    scene.persists(lane, vec![PERSISTED]).await?;
    scene.truth_stock([2, 0, 0]).await
}

async fn the_next_epoch_is_taken_by_compare_and_set(scene: &mut Scene) -> Check {
    let first = scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let (truth, activity) = (scene.truth(), scene.activity());
    scene.note("take the next epoch with a wrong expected epoch");
    for wrong in [Epoch(0), first.epoch.next()] {
        let taken = truth.next_epoch(activity, wrong).await;
        scene.same("next_epoch", "error: moved", name::of_result(&taken))?;
    }
    scene.same("epoch", first.epoch, scene.ok("epoch", truth.epoch(activity).await)?)?;
    let second = scene.ok("next_epoch", truth.next_epoch(activity, first.epoch).await)?;
    scene.same("next epoch", first.epoch.next(), second.epoch)?;
    scene.holds("each epoch has its own batch id", second.batch != first.batch, (first, second))?;
    let again = truth.next_epoch(activity, first.epoch).await;
    scene.same("next_epoch, taken again", "error: moved", name::of_result(&again))?;
    let unknown = truth.next_epoch(make::activity(999), Epoch(0)).await;
    scene.same("next_epoch of an unknown activity", "error: not open", name::of_result(&unknown))?;
    // One of 16 concurrent callers wins.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let truth = scene.truth();
        tasks.spawn(async move { truth.next_epoch(activity, second.epoch).await });
    }
    let taken = tasks.join_all().await.iter().filter(|taken| taken.is_ok()).count();
    scene.same("callers that took the epoch", 1, taken)
}

async fn content_is_read_in_chunks(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let base = scene.terms.clone().expect("an activity is open");
    let mut ids = Vec::new();
    for buyer in 1..=7 {
        ids.push(scene.place(buyer).await?.key.id);
    }
    scene.adjust("more", 3, "done").await?;
    scene.amend(make::limits(1, &[rule(Subject::User, Per::Offer, 5)])).await?;
    for limit in [1, 3, 7, 100] {
        let chunks = scene.content(limit).await?;
        scene.same("number of chunks", 7_usize.div_ceil(limit), chunks.len())?;
        let mut seen: Vec<_> =
            chunks.iter().flat_map(|chunk| &chunk.orders).map(|order| order.key.id).collect();
        seen.sort_unstable();
        scene.same("orders", ids.clone(), seen)?;
        for chunk in &chunks {
            scene.same("the terms as first opened", &base, &chunk.terms)?;
            scene.same("number of changes", 1, chunk.changes.len())?;
            let adjustment = (make::adjustment_id("more"), make::sku(1), 3);
            scene.same("adjustments", vec![adjustment], chunk.adjustments.clone())?;
            scene.holds("at most `limit` orders", chunk.orders.len() <= limit, chunk.orders.len())?;
        }
        let first = Lane::first(scene.activity());
        let last = scene.truth().events(&super::tiers::by_gate(), first, None, 10_000).await;
        let last = scene.ok("events", last)?.last().map(|entry| entry.position);
        scene.same("position of the first chunk", last, Some(chunks[0].position))?;
    }
    Ok(())
}

async fn adjustments_from_the_gate_are_applied_or_refused(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let lane = Lane::first(scene.activity());
    let gate_adjusts = |scene: &Scene, id: &str, delta: i64| {
        let adjustment = crate::ledger::Adjustment {
            activity: scene.activity(),
            sku: make::sku(1),
            id: make::adjustment_id(id),
            delta,
            by: make::by(),
        };
        let gate = scene.gate();
        async move { gate.adjust(adjustment).await }
    };
    scene.note("remove 2 units at the gate");
    scene.ok("adjust", gate_adjusts(scene, "remove two", -2).await)?;
    let (position, entries) = scene.unpersisted(lane).await?;
    scene.persists(lane, vec![PERSISTED]).await?;
    scene.truth_stock([3, 0, 0]).await?;
    let verdicts = scene.persist_with(lane, PersistMode::Salvage, entries).await;
    scene.same("verdict on the repetition", vec![PERSISTED], scene.ok("persist", verdicts)?)?;
    scene.truth_stock([3, 0, 0]).await?;
    scene.holds(
        "the truth's position moved",
        position.sequence < scene.unpersisted(lane).await?.0.sequence,
        position,
    )?;
    let ask = scene.ask(9).units(2);
    scene.place_ask(ask).await?;
    scene.note("remove 2 units that the truth no longer has");
    scene.ok("adjust", gate_adjusts(scene, "remove two more", -2).await)?;
    scene.persists(lane, vec![refused(RefusalReason::SoldOut)]).await?;
    scene.truth_stock([1, 2, 0]).await?;
    let last = scene.unfollowed(lane).await?.pop().map(|entry| entry.event);
    let recorded = matches!(last, Some(Event::AdjustmentRefused { .. }));
    scene.holds("the last event is `AdjustmentRefused`", recorded, last)
}

async fn every_gate_lane_has_its_own_position(scene: &mut Scene) -> Check {
    scene.open_tiers(3, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let buckets = scene.terms.as_ref().expect("an activity is open").buckets();
    let lane_of = |buyer| Lane::of(make::activity(1), make::user(buyer), buckets);
    for lane in scene.lanes() {
        for buyer in (1..).filter(|buyer| lane_of(*buyer).bucket == lane.bucket).take(2) {
            let ask = scene.ask(buyer);
            scene.admitted(ask).await?;
        }
    }
    for lane in scene.lanes() {
        scene.persists(lane, vec![PERSISTED; 2]).await?;
        let position = scene.ok("position", scene.truth().position(lane).await)?;
        scene.same("entries left to persist", 0, scene.unpersisted(lane).await?.1.len())?;
        scene.holds("the position is in epoch 1", position.epoch == Epoch(1), position)?;
    }
    let activity = scene.activity();
    let nowhere = Lane { activity, bucket: buckets.get() };
    let result = scene.truth().position(nowhere).await;
    scene.same("position of a bucket that does not exist", "error: not open", name::of_result(&result))?;
    scene.truth_stock([3, 6, 0]).await
}
