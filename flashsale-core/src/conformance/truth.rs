//! Truths: they take what a gate admitted, or refuse it.

use super::{
    case::cases,
    make::{self, limited, offer, rule},
    scene::{Check, Scene},
    word,
};
use crate::{
    domain::{Per, Selling, Strategy, Subject},
    ledger::{
        Change, ChangeId, Entry, Epoch, Event, Lane, OrderChange, PersistMode, Position, RefusedBecause,
        Verdict,
    },
};

cases! {
    Truth:
        a_placed_order_is_made,
        the_price_is_frozen_from_the_offer,
        the_hold_begins_when_the_order_is_persisted,
        what_is_persisted_is_persisted_once,
        entries_follow_the_position_without_a_gap,
        an_older_fence_is_refused,
        a_salvage_leaves_the_position,
        orders_of_an_older_epoch_are_refused,
        a_refused_order_keeps_key_and_ticket,
        units_limits_keys_and_tickets_are_judged_again,
        window_pause_and_bound_are_not_judged_again,
        an_epoch_is_taken_by_compare_and_set,
        content_comes_in_parts,
        adjustments_of_a_gate_are_put_in_force_or_refused,
        every_gate_lane_has_a_position;
}

const PERSISTED: Verdict = Verdict::Persisted;

fn refused(because: RefusedBecause) -> Verdict {
    Verdict::Refused(because)
}

/// A sale over two tiers, and two orders that the gate admitted.
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

async fn a_placed_order_is_made(scene: &mut Scene) -> Check {
    let (lane, _, entries) = admitted(scene, 9).await?;
    let Event::Order { id, user, change: OrderChange::Placed(placed) } = &entries[0].event else {
        return Err(scene.failure("a placed order", format!("{entries:?}")));
    };
    scene.same(
        "before",
        None,
        scene.ok("located", scene.truth().locate(crate::ledger::Reference::Order(*id)).await)?,
    )?;
    scene.persists(lane, vec![PERSISTED; 2]).await?;
    let order = scene.order(*id, user.value()).await?;
    scene.same("status", "pending", word::of_status(order.status))?;
    scene.same("persisted", true, order.persisted)?;
    scene.same("key", placed.idempotency, order.idempotency)?;
    scene.same("placed at", placed.placed_at, order.placed_at)?;
    scene.truth_stock([5, 4, 0]).await?;
    scene.pay(&order).await?;
    scene.truth_stock([5, 2, 2]).await
}

/// Price or total taken from the client.
async fn the_price_is_frozen_from_the_offer(scene: &mut Scene) -> Check {
    let (lane, position, mut entries) = admitted(scene, 9).await?;
    let Event::Order { id, user, change: OrderChange::Placed(placed) } = &mut entries[0].event else {
        return Err(scene.failure("a placed order", format!("{entries:?}")));
    };
    let (id, user) = (*id, *user);
    placed.amount = crate::domain::Money::new(1, placed.amount.currency()).expect("is not too much");
    let verdicts = scene.persist_as(lane, 1, PersistMode::After(position), entries).await;
    scene.ok("verdicts", verdicts)?;
    let order = scene.order(id, user.value()).await?;
    scene.same("amount", 2 * make::PRICE, order.amount.amount())
}

async fn the_hold_begins_when_the_order_is_persisted(scene: &mut Scene) -> Check {
    let (lane, _, entries) = admitted(scene, 9).await?;
    scene.time(500).await?;
    scene.persist(lane).await?;
    let Event::Order { id, user, .. } = &entries[0].event else {
        return Err(scene.failure("an order", format!("{entries:?}")));
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

/// Stock taken and message lost: what is delivered again is taken once.
async fn what_is_persisted_is_persisted_once(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    for expected in ["ok", "error: moved", "error: moved"] {
        let verdicts = scene.persist_as(lane, 1, PersistMode::After(position), entries.clone()).await;
        scene.same("persisted", expected, word::of_result(&verdicts))?;
        scene.check().await?;
        scene.truth_stock([5, 4, 0]).await?;
    }
    let verdicts = scene.persist_as(lane, 1, PersistMode::Salvage, entries.clone()).await;
    scene.same("verdicts", vec![PERSISTED; 2], scene.ok("verdicts", verdicts)?)?;
    scene.truth_stock([5, 4, 0]).await?;
    let now = scene.ok("position", scene.truth().position(lane).await)?;
    scene.same("position", entries[1].position, now)
}

async fn entries_follow_the_position_without_a_gap(scene: &mut Scene) -> Check {
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
        let verdicts = scene.persist_as(lane, 1, PersistMode::After(after), entries).await;
        scene.same("persisted", "error: moved", word::of_result(&verdicts))?;
        scene.check().await?;
        scene.truth_stock([9, 0, 0]).await?;
        scene.same("position", position, scene.ok("position", scene.truth().position(lane).await)?)?;
    }
    let one = scene.persist_as(lane, 1, PersistMode::After(position), entries[..1].to_vec()).await;
    scene.same("the first", vec![PERSISTED], scene.ok("verdicts", one)?)?;
    let two = scene.persist_as(lane, 1, PersistMode::After(entries[0].position), entries[1..].to_vec()).await;
    scene.same("the second", vec![PERSISTED], scene.ok("verdicts", two)?)?;
    scene.truth_stock([5, 4, 0]).await
}

async fn an_older_fence_is_refused(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let after = PersistMode::After(position);
    let verdicts = scene.persist_as(lane, 5, after, entries[..1].to_vec()).await;
    scene.ok("verdicts", verdicts)?;
    let after = PersistMode::After(entries[0].position);
    for mode in [after, PersistMode::Salvage] {
        let verdicts = scene.persist_as(lane, 4, mode, entries[1..].to_vec()).await;
        scene.same("persisted", "error: fenced", word::of_result(&verdicts))?;
        scene.truth_stock([7, 2, 0]).await?;
    }
    let verdicts = scene.persist_as(lane, 5, after, entries[1..].to_vec()).await;
    scene.ok("verdicts", verdicts)?;
    // A newer holder that found nothing to do has fenced the older one all the same.
    let after = PersistMode::After(entries[1].position);
    let verdicts = scene.persist_as(lane, 6, after, Vec::new()).await;
    scene.ok("verdicts", verdicts)?;
    let verdicts = scene.persist_as(lane, 5, after, Vec::new()).await;
    scene.same("persisted", "error: fenced", word::of_result(&verdicts))
}

async fn a_salvage_leaves_the_position(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let verdicts = scene.persist_as(lane, 1, PersistMode::Salvage, entries[1..].to_vec()).await;
    scene.same("verdicts", vec![PERSISTED], scene.ok("verdicts", verdicts)?)?;
    scene.same("position", position, scene.ok("position", scene.truth().position(lane).await)?)?;
    scene.truth_stock([7, 2, 0]).await?;
    scene.persists(lane, vec![PERSISTED; 2]).await?;
    scene.truth_stock([5, 4, 0]).await
}

async fn orders_of_an_older_epoch_are_refused(scene: &mut Scene) -> Check {
    let (lane, position, entries) = admitted(scene, 9).await?;
    let verdicts = scene.persist_as(lane, 1, PersistMode::After(position), entries[..1].to_vec()).await;
    scene.ok("verdicts", verdicts)?;
    let next = scene.next_epoch().await?;
    let opened = Position { epoch: next.epoch, sequence: 1, batch: next.batch };
    scene.same("position", opened, scene.ok("position", scene.truth().position(lane).await)?)?;
    // What was persisted before stays, what was not is refused, now and later.
    for last in [RefusedBecause::StaleEpoch, RefusedBecause::Before, RefusedBecause::Before] {
        let verdicts = scene.persist_as(lane, 1, PersistMode::Salvage, entries.clone()).await;
        scene.same("verdicts", vec![PERSISTED, refused(last)], scene.ok("verdicts", verdicts)?)?;
        scene.check().await?;
        scene.truth_stock([7, 2, 0]).await?;
    }
    let verdicts = scene.persist_as(lane, 1, PersistMode::After(opened), entries).await;
    scene.same("persisted", "error: moved", word::of_result(&verdicts))
}

async fn a_refused_order_keeps_key_and_ticket(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    let order = scene.admitted(ask).await?;
    let lane = Lane::first(scene.activity());
    let (_, entries) = scene.unpersisted(lane).await?;
    scene.next_epoch().await?;
    let verdicts = scene.persist_as(lane, 1, PersistMode::Salvage, entries).await;
    scene.ok("verdicts", verdicts)?;
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
            },
            "wrong_state refused",
        ),
        (
            crate::ledger::Advance::Refund { order: order.key, units_returned: true, by: make::by() },
            "wrong_state refused",
        ),
    ] {
        scene.advance(step, expected).await?;
    }
    scene.truth_stock([9, 0, 0]).await
}

async fn units_limits_keys_and_tickets_are_judged_again(scene: &mut Scene) -> Check {
    let reasons = [
        RefusedBecause::KeyTaken,
        RefusedBecause::TicketUsed,
        RefusedBecause::LimitReached,
        RefusedBecause::SoldOut,
    ];
    for because in reasons {
        let rules = [rule(Subject::User, Per::Offer, 2)];
        scene.open_tiers(1, vec![limited(offer(1, Strategy::PreDeduct, 4), &rules)]).await?;
        // What the gate does not know: an order of user 1, and all that a limit allows to user 2.
        let (known, full) = (scene.ask(1), scene.ask(2).units(2));
        scene.place_ask(known).await?;
        scene.place_ask(full).await?;
        let ask = match because {
            RefusedBecause::KeyTaken => known.id(scene.fresh()),
            RefusedBecause::TicketUsed => scene.ask(1).nonce(known.0.idempotency.nonce.0),
            RefusedBecause::LimitReached => scene.ask(2),
            _ => scene.ask(3).units(2),
        };
        let order = scene.admitted(ask).await?;
        let lane = Lane::first(scene.activity());
        scene.persists(lane, vec![refused(because)]).await?;
        scene.same("status", Some("refused"), scene.at_truth(&order).await?)?;
        scene.truth_stock([1, 3, 0]).await?;
        let last = scene.unfollowed(lane).await?.pop().map(|entry| entry.event);
        let says = matches!(last, Some(Event::Order { change: OrderChange::Refused(_), .. }));
        scene.holds("an event that says so", says, last)?;
    }
    Ok(())
}

/// The window and the pay-time bound are the gate's decisions, and pausing concerns new requests only.
async fn window_pause_and_bound_are_not_judged_again(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PayTime, 2)]).await?;
    let lane = Lane::first(scene.activity());
    let ask = scene.ask(1).units(3);
    scene.admitted(ask).await?;
    // At the truth, what is pending fills the bound already.
    let direct = scene.ask(2).units(2);
    scene.place_ask(direct).await?;
    for (id, change) in [
        (1, Change::Selling(Selling::Paused)),
        (2, Change::Window(make::window(scene.moment(0).before(make::seconds(9)), scene.moment(0)))),
    ] {
        let amended = scene.truth().amend(scene.activity(), ChangeId(id), change, make::by()).await;
        scene.ok("amended", amended)?;
    }
    scene.persists(lane, vec![PERSISTED]).await?;
    scene.truth_stock([2, 0, 0]).await
}

async fn an_epoch_is_taken_by_compare_and_set(scene: &mut Scene) -> Check {
    let first = scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let (truth, activity) = (scene.truth(), scene.activity());
    scene.note("take an epoch from the wrong one");
    for wrong in [Epoch(0), first.epoch.next()] {
        let taken = truth.next_epoch(activity, wrong).await;
        scene.same("taken", "error: moved", word::of_result(&taken))?;
    }
    scene.same("epoch", first.epoch, scene.ok("epoch", truth.epoch(activity).await)?)?;
    let second = scene.ok("taken", truth.next_epoch(activity, first.epoch).await)?;
    scene.same("the next", first.epoch.next(), second.epoch)?;
    scene.holds("another batch", second.batch != first.batch, (first, second))?;
    let again = truth.next_epoch(activity, first.epoch).await;
    scene.same("taken again", "error: moved", word::of_result(&again))?;
    let unknown = truth.next_epoch(make::activity(999), Epoch(0)).await;
    scene.same("of an unknown activity", "error: not open", word::of_result(&unknown))?;
    // One of many wins.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let truth = scene.truth();
        tasks.spawn(async move { truth.next_epoch(activity, second.epoch).await });
    }
    let taken = tasks.join_all().await.iter().filter(|taken| taken.is_ok()).count();
    scene.same("winners", 1, taken)
}

async fn content_comes_in_parts(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let base = scene.terms.clone().expect("an activity is open");
    let mut ids = Vec::new();
    for buyer in 1..=7 {
        ids.push(scene.place(buyer).await?.key.id);
    }
    scene.adjust("more", 3, "done").await?;
    scene.amend(make::limits(1, &[rule(Subject::User, Per::Offer, 5)])).await?;
    for limit in [1, 3, 7, 100] {
        let parts = scene.content(limit).await?;
        scene.same("parts", 7_usize.div_ceil(limit), parts.len())?;
        let mut seen: Vec<_> = parts.iter().flat_map(|part| &part.orders).map(|order| order.key.id).collect();
        seen.sort_unstable();
        scene.same("orders", ids.clone(), seen)?;
        for part in &parts {
            scene.same("the terms as first opened", &base, &part.terms)?;
            scene.same("changes", 1, part.changes.len())?;
            let adjustment = (make::adjustment_id("more"), make::sku(1), 3);
            scene.same("adjustments", vec![adjustment], part.adjustments.clone())?;
            scene.holds("at most", part.orders.len() <= limit, part.orders.len())?;
        }
        let first = Lane::first(scene.activity());
        let last = scene.truth().events(&super::tiers::by_gate(), first, None, 10_000).await;
        let last = scene.ok("events", last)?.last().map(|entry| entry.position);
        scene.same("read at", last, Some(parts[0].position))?;
    }
    Ok(())
}

async fn adjustments_of_a_gate_are_put_in_force_or_refused(scene: &mut Scene) -> Check {
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
    scene.note("two less at the gate");
    scene.ok("adjusted", gate_adjusts(scene, "two less", -2).await)?;
    let (position, entries) = scene.unpersisted(lane).await?;
    scene.persists(lane, vec![PERSISTED]).await?;
    scene.truth_stock([3, 0, 0]).await?;
    let verdicts = scene.persist_as(lane, 1, PersistMode::Salvage, entries).await;
    scene.same("again", vec![PERSISTED], scene.ok("verdicts", verdicts)?)?;
    scene.truth_stock([3, 0, 0]).await?;
    scene.holds(
        "the position moved",
        position.sequence < scene.unpersisted(lane).await?.0.sequence,
        position,
    )?;
    let ask = scene.ask(9).units(2);
    scene.place_ask(ask).await?;
    scene.note("two less, which the truth no longer has");
    scene.ok("adjusted", gate_adjusts(scene, "two more less", -2).await)?;
    scene.persists(lane, vec![refused(RefusedBecause::SoldOut)]).await?;
    scene.truth_stock([1, 2, 0]).await?;
    let last = scene.unfollowed(lane).await?.pop().map(|entry| entry.event);
    let says = matches!(last, Some(Event::AdjustmentRefused { .. }));
    scene.holds("an event that says so", says, last)
}

async fn every_gate_lane_has_a_position(scene: &mut Scene) -> Check {
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
        scene.same("what is left", 0, scene.unpersisted(lane).await?.1.len())?;
        scene.holds("a position in the epoch", position.epoch == Epoch(1), position)?;
    }
    let activity = scene.activity();
    let nowhere = Lane { activity, bucket: buckets.get() };
    let result = scene.truth().position(nowhere).await;
    scene.same("of a bucket that is not there", "error: not open", word::of_result(&result))?;
    scene.truth_stock([3, 6, 0]).await
}
