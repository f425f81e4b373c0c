//! Gates admit orders by content loaded from their truth, and follow it in everything else.

use super::{
    case::cases,
    make::{self, limited, offer, rule},
    name,
    scene::{Check, Scene},
    tiers::by_truth,
};
use crate::{
    domain::{Capture, LateCapture, Order, Per, RefundOrder, ReversalKind, Selling, Strategy, Subject},
    ledger::{
        Adjustment, Advance, BatchId, Change, ChangeId, Chunk, Epoch, Event, Lane, LedgerCalls as _, Outcome,
        StepId, TimeStep,
    },
};

cases! {
    Gate:
        a_gate_leaves_decisions_to_the_truth,
        a_gate_without_content_is_not_ready,
        a_gate_admits_orders_without_a_deadline,
        chunks_are_loaded_in_order,
        an_epoch_opens_once,
        an_epoch_closed_while_it_loads_never_opens,
        the_outbox_starts_with_the_batch_id_of_the_epoch,
        a_step_of_time_while_loading_is_not_the_first_entry,
        closing_stops_admission_and_keeps_the_outbox,
        a_request_for_another_epoch_answers_not_ready,
        an_order_is_confirmed_even_if_the_gate_wrote_more_entries,
        a_refused_order_releases_its_units_once,
        orders_with_one_id_are_told_apart_by_their_owners,
        the_gate_follows_orders_through_their_life,
        pay_time_units_follow_the_truth,
        repeated_entries_are_applied_once,
        a_gap_in_the_entries_is_rejected,
        missing_units_are_owed,
        a_rebuild_restores_what_the_truth_has,
        a_rebuild_divides_the_free_units_among_the_buckets,
        a_rebuild_drops_orders_unknown_to_the_truth,
        changes_made_during_a_rebuild_are_followed,
        every_order_shows_each_change_once_whenever_it_was_read,
        a_transfer_is_void_after_its_epoch,
        units_are_removed_at_the_gate_first,
        an_adjustment_refused_by_the_truth_is_undone,
        changes_of_terms_are_followed,
        devices_are_counted_at_the_gate_whatever_limits_come;
}

async fn a_gate_leaves_decisions_to_the_truth(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let order = {
        let ask = scene.ask(1);
        scene.admitted(ask).await?
    };
    let (gate, activity, lane) = (scene.gate(), scene.activity(), scene.lane(1));
    let terms = scene.terms.clone().expect("an activity is open");
    scene.note("call what only a truth decides");
    let expected = "error: not deciding";
    scene.same("open", expected, name::of_result(&gate.open(terms).await))?;
    let change = Change::Selling(Selling::Paused);
    scene.same(
        "amend",
        expected,
        name::of_result(&gate.amend(activity, ChangeId(1), change, make::by()).await),
    )?;
    let cancel = Advance::Cancel { order: order.key, by: None };
    scene.same("advance", expected, name::of_result(&gate.advance(lane, vec![cancel]).await))?;
    scene.same("expire_due", expected, name::of_result(&gate.expire_due(lane, 9).await))?;
    let capture = make::capture_of(&order, 1, 1);
    scene.same("keep_unmatched", expected, name::of_result(&gate.keep_unmatched(lane, capture).await))?;
    scene.adjust("more", 1, expected).await?;
    scene.adjust("too much", 2_000_000_000, expected).await?;
    scene.gate_stock([4, 1, 0]).await
}

async fn a_gate_without_content_is_not_ready(scene: &mut Scene) -> Check {
    let (gate, activity) = (scene.gate(), make::activity(77));
    let lane = Lane::first(activity);
    let ask = scene.ask(1);
    let answer = scene.ok("reserve", gate.reserve(lane, None, vec![ask.0]).await)?;
    scene.same(
        "outcome",
        vec!["not_ready".to_owned()],
        answer.outcomes.iter().map(name::of_outcome).collect(),
    )?;
    scene.same("epoch", None, scene.ok("epoch", gate.open_epoch(activity).await)?)?;
    scene.ok("close", gate.close(activity, Epoch(9)).await)?;
    scene.same("followed", "error: not open", name::of_result(&gate.followed(lane).await))?;
    scene.same("follow", "error: not open", name::of_result(&gate.follow(lane, Vec::new()).await))?;
    let reopened = gate.reopen(activity, Epoch(1), BatchId(1)).await;
    scene.same("reopen without content", "error: invalid", name::of_result(&reopened))
}

async fn a_gate_admits_orders_without_a_deadline(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 2)]).await?;
    let ask = scene.ask(1).units(2);
    let order = scene.admitted(ask).await?;
    scene.same("persisted", false, order.persisted)?;
    scene.same("deadline", None, order.deadline)?;
    let other = scene.ask(2);
    scene.admit(other, "sold_out 0").await?;
    let again = scene.admit(ask, "replayed pending").await?;
    let (_, entries) = scene.unpersisted(scene.lane(1)).await?;
    let last = entries.last().map(|entry| entry.position);
    let is_receipt = matches!(again, Outcome::Replayed { position, .. } if Some(position) == last);
    scene.holds("a replay has the position of the order's entry, or of a later one", is_receipt, &again)?;
    scene.gate_stock([0, 2, 0]).await?;
    scene.pump().await?;
    scene.same("(status, persisted)", ("pending", true), scene.at_gate(&order).await?)
}

async fn chunks_are_loaded_in_order(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    for buyer in 1..=5 {
        let ask = scene.ask(buyer);
        scene.admitted(ask).await?;
    }
    scene.pump().await?;
    let next = scene.next_epoch().await?;
    let chunks = scene.content(2).await?;
    scene.same("number of chunks", 3, chunks.len())?;
    scene.load(next.epoch, chunks[1].clone(), "error: invalid").await?;
    scene.load(next.epoch, chunks[0].clone(), "ok").await?;
    scene.load(next.epoch, chunks[2].clone(), "error: invalid").await?;
    scene.reopen(next.epoch, next.batch, "error: invalid").await?;
    scene.load(next.epoch, chunks[0].clone(), "ok").await?;
    scene.load(next.epoch, chunks[1].clone(), "ok").await?;
    scene.load(next.epoch, chunks[1].clone(), "ok").await?;
    scene.reopen(next.epoch, next.batch, "error: invalid").await?;
    scene.load(next.epoch, chunks[2].clone(), "ok").await?;
    scene.reopen(next.epoch, next.batch, "ok").await?;
    scene.gate_stock([15, 5, 0]).await?;
    // Content of the open epoch or an older one comes too late.
    scene.load(next.epoch, chunks[0].clone(), "error: moved").await
}

async fn an_epoch_opens_once(scene: &mut Scene) -> Check {
    let first = scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1);
    scene.admitted(ask).await?;
    scene.reopen(first.epoch, first.batch, "ok").await?;
    scene.gate_stock([19, 1, 0]).await?;
    let second = scene.rebuild_gate().await?;
    scene.gate_stock([20, 0, 0]).await?;
    scene.reopen(first.epoch, first.batch, "error: moved").await?;
    scene.note("close the second epoch");
    scene.ok("close", scene.gate().close(scene.activity(), second.epoch).await)?;
    scene.reopen(second.epoch, second.batch, "error: moved").await?;
    scene.admit(ask, "not_ready").await?;
    scene.rebuild_gate().await?;
    scene.admit(ask, "reserved").await.map(drop)
}

/// Mistake: a node that loads slowly opens content that another node has given up.
async fn an_epoch_closed_while_it_loads_never_opens(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1);
    scene.admitted(ask).await?;
    let lane = scene.lane(1);
    scene.persist(lane).await?;
    let entries = scene.unfollowed(lane).await?;
    let next = scene.next_epoch().await?;
    let chunk = scene.content(9).await?.remove(0);
    scene.load(next.epoch, chunk.clone(), "ok").await?;
    // From its first chunk on, the gate is closed and follows nothing.
    let (gate, activity) = (scene.gate(), scene.activity());
    scene.same("epoch", None, scene.ok("epoch", gate.open_epoch(activity).await)?)?;
    scene.admit(ask, "not_ready").await?;
    scene.follow_with(lane, entries, "error: not open").await?;
    scene.note("close the epoch that is being loaded");
    scene.ok("close", gate.close(activity, next.epoch).await)?;
    scene.reopen(next.epoch, next.batch, "error: moved").await?;
    scene.load(next.epoch, chunk, "error: moved").await?;
    scene.admit(ask, "not_ready").await?;
    scene.rebuild_gate().await?;
    scene.admit(ask, "replayed pending").await.map(drop)
}

async fn the_outbox_starts_with_the_batch_id_of_the_epoch(scene: &mut Scene) -> Check {
    for _ in 0..2 {
        let next = scene.open_tiers(3, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
        for lane in scene.lanes() {
            let entries = scene.ok("events", scene.gate().events(&by_truth(), lane, None, 9).await)?;
            scene.holds(
                "the only entry is `Reopened`",
                matches!(entries[..], [_]) && entries[0].event == Event::Reopened,
                &entries,
            )?;
            let position = crate::ledger::Position { epoch: next.epoch, sequence: 1, batch: next.batch };
            scene.same("position of the entry", position, entries[0].position)?;
            let at_truth = scene.ok("position", scene.truth().position(lane).await)?;
            scene.same("position at the truth", position, at_truth)?;
        }
    }
    Ok(())
}

/// Mistake: a step of the clock during a rebuild becomes the gate's first entry, so the pump takes the gate
/// for lost.
async fn a_step_of_time_while_loading_is_not_the_first_entry(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let next = scene.next_epoch().await?;
    let chunk = scene.content(9).await?.remove(0);
    scene.load(next.epoch, chunk, "ok").await?;
    scene.note("step the gate's time");
    let step = TimeStep::new(StepId(1), 1_000, make::by()).expect("a valid step");
    scene.ok("step_time", scene.gate().step_time(step).await)?;
    scene.reopen(next.epoch, next.batch, "ok").await?;
    let first = crate::ledger::Position { epoch: next.epoch, sequence: 1, batch: next.batch };
    let entries = scene.ok("events", scene.gate().events(&by_truth(), scene.lane(1), None, 9).await)?;
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    scene.same("positions of the entries", vec![first], positions)?;
    let ask = scene.ask(1);
    let order = scene.admitted(ask).await?;
    scene.pump().await?;
    scene.same("(status, persisted)", ("pending", true), scene.at_gate(&order).await?)
}

async fn closing_stops_admission_and_keeps_the_outbox(scene: &mut Scene) -> Check {
    let next = scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1);
    let order = scene.admitted(ask).await?;
    let (gate, activity) = (scene.gate(), scene.activity());
    scene.note("close an older epoch");
    scene.ok("close", gate.close(activity, Epoch(next.epoch.0 - 1)).await)?;
    scene.same("epoch", Some(next.epoch), scene.ok("epoch", gate.open_epoch(activity).await)?)?;
    for _ in 0..2 {
        scene.note("close");
        scene.ok("close", gate.close(activity, next.epoch).await)?;
        scene.same("epoch", None, scene.ok("epoch", gate.open_epoch(activity).await)?)?;
        let other = scene.ask(2);
        scene.admit(other, "not_ready").await?;
        scene.admit(ask, "not_ready").await?;
    }
    scene.adjust("remove", -1, "error: not open").await?;
    let lane = scene.lane(1);
    for to in [1 - lane.bucket, lane.bucket] {
        let sent = gate.send(lane, to, make::sku(1), 1).await;
        scene.same("send", "error: not open", name::of_result(&sent))?;
    }
    let (_, entries) = scene.unpersisted(lane).await?;
    scene.same("entries that can still be salvaged", 1, entries.len())?;
    scene.pump().await?;
    scene.same("status at the truth", Some("pending"), scene.at_truth(&order).await?)
}

async fn a_request_for_another_epoch_answers_not_ready(scene: &mut Scene) -> Check {
    let first = scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1);
    scene.reserve_in(ask, Some(first.epoch), "reserved").await?;
    let second = scene.rebuild_gate().await?;
    let ask = scene.ask(1);
    scene.reserve_in(ask, Some(first.epoch), "not_ready").await?;
    scene.reserve_in(ask, Some(second.epoch.next()), "not_ready").await?;
    scene.reserve_in(ask, Some(second.epoch), "reserved").await.map(drop)
}

/// Mistake: a truth's entry is ignored because the gate's own sequence is higher.
async fn an_order_is_confirmed_even_if_the_gate_wrote_more_entries(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    for _ in 0..10 {
        let sent = scene.gate().send(Lane { bucket: 0, ..scene.lane(1) }, 1, make::sku(1), 1).await;
        let sent = scene.ok("send", sent)?;
        let sent = sent.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
        super::buckets::receive(scene, sent, true).await?;
        super::buckets::forget(scene, sent).await?;
    }
    for bucket in [1, 1, 1] {
        let buyer = scene.buyer_of(bucket, 1);
        let ask = scene.ask(buyer);
        let order = scene.admitted(ask).await?;
        scene.same("(status, persisted)", ("pending", false), scene.at_gate(&order).await?)?;
        scene.pump().await?;
        scene.same("(status, persisted)", ("pending", true), scene.at_gate(&order).await?)?;
    }
    Ok(())
}

async fn a_refused_order_releases_its_units_once(scene: &mut Scene) -> Check {
    let offers = vec![limited(offer(1, Strategy::PreDeduct, 2), &[rule(Subject::User, Per::Offer, 1)])];
    scene.open_tiers(1, offers).await?;
    // The truth sells both units to buyers unknown to the gate.
    for buyer in [8, 9] {
        let ask = scene.ask(buyer);
        scene.note("reserve at the truth");
        let lane = Lane::first(scene.activity());
        scene.ok("reserve", scene.truth().reserve(lane, None, vec![ask.0]).await)?;
    }
    let ask = scene.ask(1);
    let order = scene.admitted(ask).await?;
    scene.gate_stock([1, 1, 0]).await?;
    let lane = scene.lane(1);
    scene.persist(lane).await?;
    scene.same("status at the truth", Some("refused"), scene.at_truth(&order).await?)?;
    let entries = scene.unfollowed(lane).await?;
    for _ in 0..2 {
        scene.follow_with(lane, entries.clone(), "ok").await?;
        scene.same("(status, persisted)", ("refused", true), scene.at_gate(&order).await?)?;
        scene.gate_stock([0, 2, 0]).await?;
    }
    scene.admit(ask, "replayed refused").await?;
    // The refused order no longer counts for the limit, but its key and ticket stay used.
    let again = scene.ask(1);
    scene.admit(again, "sold_out 0").await?;
    scene.admit(again.nonce(ask.0.idempotency.nonce.0), "ticket_used").await.map(drop)
}

/// Mistake: what the truth says about a buyer's order changes another buyer's order with that id.
async fn orders_with_one_id_are_told_apart_by_their_owners(scene: &mut Scene) -> Check {
    for bucket in [0, 1] {
        scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
        let (owner, other) = (scene.buyer_of(0, 1), scene.buyer_of(bucket, 2));
        let ask = scene.ask(owner).units(2);
        scene.note("reserve at the truth");
        let answer = scene.truth().reserve(Lane::first(scene.activity()), None, vec![ask.0]).await;
        let known = scene.ok("reserve", answer)?.outcomes[0].order().cloned();
        let known = known.ok_or_else(|| scene.failure("the truth makes an order", "none".into()))?;
        let ask = scene.ask(other).id(known.key.id.value());
        let queued = scene.admitted(ask).await?;
        for lane in scene.lanes() {
            let entries = scene.unfollowed(lane).await?;
            scene.follow_with(lane, entries, "ok").await?;
        }
        scene.same("(status, persisted)", ("pending", true), scene.at_gate(&known).await?)?;
        scene.same("(status, persisted)", ("pending", false), scene.at_gate(&queued).await?)?;
        scene.gate_stock([6, 3, 0]).await?;
        scene.pump().await?;
        scene.same("(status, persisted)", ("pending", true), scene.at_gate(&known).await?)?;
        scene.same("(status, persisted)", ("pending", true), scene.at_gate(&queued).await?)?;
        scene.gate_stock([6, 3, 0]).await?;
        scene.truth_stock([6, 3, 0]).await?;
        scene.admit(ask, "replayed pending").await?;
        scene.decide(Advance::Cancel { order: known.key, by: None }, "done cancelled").await?;
        scene.pump().await?;
        scene.same("(status, persisted)", ("cancelled", true), scene.at_gate(&known).await?)?;
        scene.gate_stock([8, 1, 0]).await?;
        scene.rebuild_gate().await?;
        scene.gate_stock([8, 1, 0]).await?;
    }
    Ok(())
}

async fn the_gate_follows_orders_through_their_life(scene: &mut Scene) -> Check {
    for strategy in make::STRATEGIES {
        scene.open_tiers(1, vec![offer(1, strategy, 10)]).await?;
        let mut orders = Vec::new();
        for buyer in 1..=3 {
            let ask = scene.ask(buyer);
            orders.push(scene.admitted(ask).await?);
        }
        scene.pump().await?;
        let [paid, cancelled, failed] = [&orders[0], &orders[1], &orders[2]];
        for order in [paid, failed] {
            let payment = make::payment_id(order.key.id.value());
            let provider = make::provider("sandbox");
            scene
                .decide(
                    Advance::OpenPayment { order: order.key, payment, provider, in_parts: false },
                    "done paying",
                )
                .await?;
        }
        scene.decide(Advance::Cancel { order: cancelled.key, by: None }, "done cancelled").await?;
        scene.pump().await?;
        scene.same("(status, persisted)", ("paying", true), scene.at_gate(paid).await?)?;
        scene.same("(status, persisted)", ("cancelled", true), scene.at_gate(cancelled).await?)?;
        scene.gate_stock([8, 2, 0]).await?;
        let payment = failed.key.id.value();
        let fail = Advance::PaymentFailed { order: failed.key, payment: make::payment_id(payment) };
        scene.decide(fail, "done pending").await?;
        let capture = make::capture_of(paid, paid.key.id.value(), paid.key.id.value());
        let replacement = make::order_id(scene.fresh());
        scene
            .decide(Advance::Capture { order: paid.key, capture, in_parts: false, replacement }, "done paid")
            .await?;
        scene.pump().await?;
        scene.same("(status, persisted)", ("paid", true), scene.at_gate(paid).await?)?;
        scene.same("(status, persisted)", ("pending", true), scene.at_gate(failed).await?)?;
        scene.gate_stock(if strategy == Strategy::PayTime { [9, 0, 1] } else { [8, 1, 1] }).await?;
        let refund = Advance::Refund { order: paid.key, refund: make::whole_refund(1), by: make::by() };
        scene.decide(refund, "done paid").await?;
        scene.decide(Advance::Cancel { order: failed.key, by: None }, "done cancelled").await?;
        scene.pump().await?;
        scene.gate_stock([10, 0, 0]).await?;
    }
    Ok(())
}

async fn pay_time_units_follow_the_truth(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PayTime, 2)]).await?;
    let (first, second) = (scene.ask(1).units(2), scene.ask(2));
    let (first, second) = (scene.admitted(first).await?, scene.admitted(second).await?);
    let more = scene.ask(3);
    scene.admit(more, "sold_out 0").await?;
    scene.pump().await?;
    let open = |order: &crate::domain::Order| Advance::OpenPayment {
        order: order.key,
        payment: make::payment_id(order.key.id.value()),
        provider: make::provider("sandbox"),
        in_parts: false,
    };
    scene.decide(open(&second), "done paying").await?;
    scene.decide(open(&first), "sold_out 1").await?;
    scene.pump().await?;
    scene.gate_stock([1, 1, 0]).await?;
    let fail = Advance::PaymentFailed { order: second.key, payment: make::payment_id(second.key.id.value()) };
    scene.decide(fail, "done pending").await?;
    scene.pump().await?;
    scene.gate_stock([2, 0, 0]).await
}

async fn repeated_entries_are_applied_once(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let mut orders = Vec::new();
    for bucket in [0, 1] {
        let buyer = scene.buyer_of(bucket, 1);
        let ask = scene.ask(buyer);
        orders.push(scene.admitted(ask).await?);
    }
    for lane in scene.lanes() {
        scene.persist(lane).await?;
    }
    scene.decide(Advance::Cancel { order: orders[0].key, by: None }, "done cancelled").await?;
    for lane in scene.lanes() {
        let entries = scene.unfollowed(lane).await?;
        let last = entries.last().map(|entry| entry.position);
        for from in [0, 1, entries.len() - 1, 0] {
            scene.follow_with(lane, entries[from..].to_vec(), "ok").await?;
            scene.same("followed", last, Some(scene.ok("followed", scene.gate().followed(lane).await)?))?;
        }
    }
    scene.same("(status, persisted)", ("cancelled", true), scene.at_gate(&orders[0]).await?)?;
    scene.same("(status, persisted)", ("pending", true), scene.at_gate(&orders[1]).await?)?;
    scene.gate_stock([19, 1, 0]).await
}

async fn a_gap_in_the_entries_is_rejected(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    for buyer in 1..=4 {
        let ask = scene.ask(buyer);
        scene.admitted(ask).await?;
    }
    let lane = scene.lane(1);
    scene.persist(lane).await?;
    let before = scene.ok("followed", scene.gate().followed(lane).await)?;
    let entries = scene.unfollowed(lane).await?;
    scene.follow_with(lane, entries[2..].to_vec(), "error: moved").await?;
    let with_gap = vec![entries[1].clone(), entries[3].clone()];
    scene.follow_with(lane, with_gap, "error: moved").await?;
    scene.same("followed", before, scene.ok("followed", scene.gate().followed(lane).await)?)?;
    scene.follow_with(lane, entries, "ok").await
}

async fn missing_units_are_owed(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 1)]).await?;
    let lane = scene.lane(1);
    let ask = scene.ask(1);
    let mine = scene.admitted(ask).await?;
    let other = scene.ask(9);
    scene.note("reserve at the truth");
    let answer = scene.truth().reserve(Lane::first(scene.activity()), None, vec![other.0]).await;
    let theirs = scene.ok("reserve", answer)?.outcomes[0].order().cloned();
    let theirs = theirs.ok_or_else(|| scene.failure("the truth makes an order", "none".into()))?;
    let entries = scene.unfollowed(lane).await?;
    scene.follow_with(lane, entries, "ok").await?;
    scene.gate_stock([-1, 2, 0]).await?;
    let more = scene.ask(2);
    scene.admit(more, "sold_out 0").await?;
    // The next released units pay the debt.
    scene.pump().await?;
    scene.same("(status, persisted)", ("refused", true), scene.at_gate(&mine).await?)?;
    scene.gate_stock([0, 1, 0]).await?;
    scene.decide(Advance::Cancel { order: theirs.key, by: None }, "done cancelled").await?;
    scene.pump().await?;
    scene.gate_stock([1, 0, 0]).await?;
    scene.admit(more, "reserved").await.map(drop)
}

async fn a_rebuild_restores_what_the_truth_has(scene: &mut Scene) -> Check {
    let rules = [rule(Subject::User, Per::Offer, 2), rule(Subject::User, Per::Activity, 2)];
    scene.open_tiers(1, vec![limited(offer(1, Strategy::PreDeduct, 20), &rules)]).await?;
    let asks: Vec<_> = (1..=5).map(|buyer| scene.ask(buyer).units(2)).collect();
    let mut orders = Vec::new();
    for ask in &asks {
        orders.push(scene.admitted(*ask).await?);
    }
    scene.adjust("remove", -3, "done").await?;
    scene.pump().await?;
    let payment = make::payment_id(1);
    let open = Advance::OpenPayment {
        order: orders[0].key,
        payment,
        provider: make::provider("sandbox"),
        in_parts: false,
    };
    scene.decide(open, "done paying").await?;
    let capture = make::capture_of(&orders[0], 1, 1);
    let replacement = make::order_id(scene.fresh());
    scene
        .decide(Advance::Capture { order: orders[0].key, capture, in_parts: false, replacement }, "done paid")
        .await?;
    scene.decide(Advance::Cancel { order: orders[1].key, by: None }, "done cancelled").await?;
    scene.rebuild_gate().await?;
    scene.gate_stock([9, 6, 2]).await?;
    for (index, status) in [(0, "replayed paid"), (1, "replayed cancelled"), (2, "replayed pending")] {
        scene.admit(asks[index], status).await?;
        let key_reused = asks[index].units(1);
        scene.admit(key_reused, "key_reused").await?;
        let other_key = asks[index].key(9_000 + u128::from(asks[index].0.order.value()));
        scene.admit(other_key.id(9_000 + asks[index].0.order.value()), "ticket_used").await?;
    }
    let (limited, free) = (scene.ask(3), scene.ask(2));
    scene.admit(limited, "limit_reached user/offer 2 remaining 0").await?;
    scene.admit(free, "reserved").await?;
    scene.adjust("remove", -3, "replayed").await?;
    scene.pump().await?;
    scene.truth_stock([8, 7, 2]).await
}

async fn a_rebuild_divides_the_free_units_among_the_buckets(scene: &mut Scene) -> Check {
    scene.open_tiers(3, vec![offer(1, Strategy::PreDeduct, 11)]).await?;
    let buyer = scene.buyer_of(1, 1);
    let ask = scene.ask(buyer).units(3);
    scene.admitted(ask).await?;
    scene.pump().await?;
    scene.rebuild_gate().await?;
    let inspection = scene.inspect(scene.activity()).await?;
    let shares: Vec<_> = inspection.lanes.iter().map(|lane| lane.offers[0].available).collect();
    scene.same("available in each bucket", vec![3, 3, 2], shares)?;
    scene.gate_stock([8, 3, 0]).await
}

async fn a_rebuild_drops_orders_unknown_to_the_truth(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 3)]).await?;
    let (kept, lost) = (scene.ask(1), scene.ask(2));
    scene.admitted(kept).await?;
    scene.pump().await?;
    let order = scene.admitted(lost).await?;
    let (_, entries) = scene.unpersisted(scene.lane(2)).await?;
    scene.rebuild_gate().await?;
    let gone = scene.ok("order", scene.gate().order(order.key).await)?;
    scene.same("the lost order at the gate", None, gone)?;
    scene.gate_stock([2, 1, 0]).await?;
    // Its entry arrives late: the order is recorded as refused and holds nothing.
    let lane = Lane::first(scene.activity());
    let verdicts = scene.persist_with(lane, crate::ledger::PersistMode::Salvage, entries).await;
    let verdicts = scene.ok("persist", verdicts)?;
    let stale = crate::ledger::Verdict::Refused(crate::ledger::RefusalReason::StaleEpoch);
    scene.same("verdicts", vec![stale], verdicts)?;
    scene.pump().await?;
    scene.gate_stock([2, 1, 0]).await?;
    scene.admit(lost, "replayed refused").await.map(drop)
}

/// Orders change while the gate is loading content.
async fn changes_made_during_a_rebuild_are_followed(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let mut orders = Vec::new();
    for buyer in 1..=4 {
        let ask = scene.ask(buyer);
        orders.push(scene.admitted(ask).await?);
    }
    scene.pump().await?;
    let next = scene.next_epoch().await?;
    let mut after = None;
    for index in 0..4 {
        let chunk = scene.ok("content", scene.truth().content(scene.activity(), after, 1).await)?;
        after = chunk.continues_after();
        scene.load(next.epoch, chunk, "ok").await?;
        // Cancel one order that was read already and one that was not.
        if index == 1 {
            for order in [&orders[0], &orders[3]] {
                scene.decide(Advance::Cancel { order: order.key, by: None }, "done cancelled").await?;
            }
        }
    }
    scene.same("cursor after the last chunk", None, after)?;
    scene.reopen(next.epoch, next.batch, "ok").await?;
    scene.pump().await?;
    for (order, expected) in orders.iter().zip(["cancelled", "pending", "pending", "cancelled"]) {
        scene.same("(status, persisted)", (expected, true), scene.at_gate(order).await?)?;
    }
    scene.gate_stock([18, 2, 0]).await
}

/// Mistake: an event of one order sets back another that was read later, which then changes twice.
async fn every_order_shows_each_change_once_whenever_it_was_read(scene: &mut Scene) -> Check {
    for first in 0..=LATE_STEPS {
        for second in first..=LATE_STEPS {
            for old_is_read_first in [true, false] {
                read_at(scene, first, second, old_is_read_first).await?;
            }
        }
    }
    Ok(())
}

/// The number of steps of [`late_step`].
const LATE_STEPS: u64 = 8;

/// Takes a step of an expired order, of the order that replaces it, or of both.
async fn late_step(scene: &mut Scene, old: &Order, new: &Order, payment: u64, step: u64) -> Check {
    let capture = |n, amount| Advance::Capture {
        order: old.key,
        capture: Capture { amount, ..make::capture_of(old, payment, n) },
        in_parts: false,
        replacement: new.key.id,
    };
    let report = |kind, n| Advance::Reversal {
        order: old.key,
        report: make::reversal_of(old, payment, kind, n, make::PRICE),
    };
    let refund = RefundOrder { amount: Some(10), units: Some(1), ..make::whole_refund(1) };
    let (step, expected) = match step {
        0 => (capture(1, 5), "refund_due expired wrong_amount"),
        1 => (report(ReversalKind::Disputed, 1), "done expired"),
        2 => (capture(2, old.amount.amount()), "retaken paid"),
        3 => (capture(3, old.amount.amount()), "refund_due expired paid_twice"),
        4 => (report(ReversalKind::Disputed, 2), "done paid"),
        5 => (Advance::Refund { order: new.key, refund, by: make::by() }, "done paid"),
        6 => (report(ReversalKind::DisputeWon, 1), "done expired"),
        _ => (report(ReversalKind::DisputeLost, 2), "done paid"),
    };
    scene.decide(step, expected).await
}

/// Loads a gate with one of the two orders as it is after `first` steps, and with the other as it is
/// after `second`. A truth may hand out orders in any order, and may lack one at first.
async fn read_at(scene: &mut Scene, first: u64, second: u64, old_is_read_first: bool) -> Check {
    let offers = vec![offer(1, Strategy::PreDeduct, 9).with_late_capture(LateCapture::Retake)];
    scene.open_tiers(1, offers).await?;
    let ask = scene.ask(1).units(2);
    let old = scene.admitted(ask).await?;
    let mut new = old.clone();
    new.key.id = make::order_id(scene.fresh());
    scene.pump().await?;
    let payment = scene.fresh();
    let (order, id, provider) = (old.key, make::payment_id(payment), make::provider("sandbox"));
    scene
        .decide(Advance::OpenPayment { order, payment: id, provider, in_parts: false }, "done paying")
        .await?;
    scene.decide(Advance::PaymentFailed { order, payment: id }, "done pending").await?;
    scene.time(200).await?;
    scene.note("expire what is due at the truth");
    scene.ok("expire_due", scene.truth().expire_due(Lane::first(scene.activity()), 9).await)?;
    let next = scene.next_epoch().await?;
    let mut parts = Vec::new();
    for step in 0..=LATE_STEPS {
        for (at, is_old) in [(first, old_is_read_first), (second, !old_is_read_first)] {
            if at == step {
                let mut chunk = scene.content(9).await?.remove(0);
                chunk.orders.retain(|order| (order.key == old.key) == is_old);
                parts.push(chunk);
            }
        }
        if step < LATE_STEPS {
            late_step(scene, &old, &new, payment, step).await?;
        }
    }
    let (cursor, last) = (Some(old.key.id), parts.remove(1));
    scene.load(next.epoch, Chunk { next: cursor, ..parts.remove(0) }, "ok").await?;
    scene.load(next.epoch, Chunk { after: cursor, ..last }, "ok").await?;
    scene.reopen(next.epoch, next.batch, "ok").await?;
    scene.pump().await?;
    for key in [old.key, new.key] {
        let at_truth = scene.ok("order", scene.truth().order(key).await)?;
        scene.holds("the truth has the order", at_truth.is_some(), key)?;
        let read =
            format!("order {key:?}, read after {first} and {second} steps, old first: {old_is_read_first}");
        scene.same(&read, at_truth, scene.ok("order", scene.gate().order(key).await)?)?;
    }
    scene.gate_stock([8, 0, 1]).await
}

/// Mistake: a transfer that is resent after a rebuild adds its units a second time.
async fn a_transfer_is_void_after_its_epoch(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 10)]).await?;
    let first = Lane { bucket: 0, ..scene.lane(1) };
    scene.note("send 3 units");
    let old = scene.ok("send", scene.gate().send(first, 1, make::sku(1), 3).await)?;
    let old = old.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    scene.rebuild_gate().await?;
    scene.gate_stock([10, 0, 0]).await?;
    scene.note("receive the transfer in the next epoch");
    let received = scene.gate().receive(old).await;
    scene.same("receive", "error: moved", name::of_result(&received))?;
    scene.gate_stock([10, 0, 0]).await?;
    scene.note("send 2 units");
    let new = scene.ok("send", scene.gate().send(first, 1, make::sku(1), 2).await)?;
    let new = new.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    super::buckets::forget(scene, old).await?;
    super::buckets::receive(scene, new, true).await?;
    scene.gate_stock([10, 0, 0]).await
}

async fn units_are_removed_at_the_gate_first(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let ask = scene.ask(1).units(2);
    scene.admitted(ask).await?;
    scene.adjust("remove four", -4, "insufficient 3").await?;
    scene.adjust("remove three", -3, "done").await?;
    scene.adjust("remove three", -3, "replayed").await?;
    scene.gate_stock([0, 2, 0]).await?;
    scene.pump().await?;
    scene.truth_stock([0, 2, 0]).await?;
    scene.gate_stock([0, 2, 0]).await?;
    // Positive adjustments come from the truth.
    scene.note("add 1 unit at the truth");
    let more = Adjustment {
        activity: scene.activity(),
        sku: make::sku(1),
        id: make::adjustment_id("add one"),
        delta: 1,
        by: make::by(),
    };
    scene.ok("adjust", scene.truth().adjust(more).await)?;
    scene.pump().await?;
    scene.gate_stock([1, 2, 0]).await?;
    scene.truth_stock([1, 2, 0]).await
}

async fn an_adjustment_refused_by_the_truth_is_undone(scene: &mut Scene) -> Check {
    scene.open_tiers(1, vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let ask = scene.ask(9).units(4);
    scene.note("reserve at the truth");
    scene.ok("reserve", scene.truth().reserve(Lane::first(scene.activity()), None, vec![ask.0]).await)?;
    scene.adjust("remove three", -3, "done").await?;
    scene.gate_stock([2, 0, 0]).await?;
    scene.pump().await?;
    scene.gate_stock([1, 4, 0]).await?;
    scene.truth_stock([1, 4, 0]).await?;
    let known = scene.gate().adjustment(scene.activity(), &make::adjustment_id("remove three")).await;
    scene.same("adjustment in force", None, scene.ok("adjustment", known)?)?;
    // One id with two meanings: the truth's adjustment applies at both.
    scene.note("add 1 unit at the truth");
    let more = Adjustment {
        activity: scene.activity(),
        sku: make::sku(1),
        id: make::adjustment_id("both"),
        delta: 1,
        by: make::by(),
    };
    scene.ok("adjust", scene.truth().adjust(more).await)?;
    scene.adjust("both", -1, "done").await?;
    scene.pump().await?;
    scene.gate_stock([2, 4, 0]).await?;
    scene.truth_stock([2, 4, 0]).await
}

async fn changes_of_terms_are_followed(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1);
    scene.admitted(ask).await?;
    let changes = [
        (1, Change::Selling(Selling::Paused), "paused"),
        (2, Change::Selling(Selling::On), "reserved"),
        (3, make::limits(1, &[rule(Subject::User, Per::Offer, 1)]), "limit_reached user/offer 1 remaining 0"),
    ];
    for (id, change, expected) in changes {
        scene.note(format!("amend to {change:?} at the truth"));
        let amended = scene.truth().amend(scene.activity(), ChangeId(id), change, make::by()).await;
        scene.ok("amend", amended)?;
        scene.pump().await?;
        let ask = scene.ask(1);
        scene.admit(ask, expected).await?;
    }
    scene.pump().await?;
    scene.rebuild_gate().await?;
    let ask = scene.ask(1);
    scene.admit(ask, "limit_reached user/offer 1 remaining 0").await.map(drop)
}

/// Mistake: with a kind of limit that is new, all units are counted again, but only of the orders that the
/// truth's entries name.
async fn devices_are_counted_at_the_gate_whatever_limits_come(scene: &mut Scene) -> Check {
    let devices = rule(Subject::Device, Per::Offer, 3);
    scene.open_tiers(1, vec![limited(offer(1, Strategy::PreDeduct, 20), &[devices])]).await?;
    let mut orders = Vec::new();
    for buyer in 1..=3 {
        let ask = scene.ask(buyer).device(9);
        orders.push(scene.admitted(ask).await?);
    }
    let over = scene.ask(4).device(9);
    scene.admit(over, "limit_reached device/offer 3 remaining 0").await?;
    scene.pump().await?;
    scene.note("limit users too at the truth");
    let change = make::limits(1, &[devices, rule(Subject::User, Per::Offer, 9)]);
    let amended = scene.truth().amend(scene.activity(), ChangeId(1), change, make::by()).await;
    scene.ok("amend", amended)?;
    scene.decide(Advance::Cancel { order: orders[0].key, by: None }, "done cancelled").await?;
    scene.pump().await?;
    scene.admit(over, "reserved").await?;
    let over = scene.ask(5).device(9);
    scene.admit(over, "limit_reached device/offer 3 remaining 0").await.map(drop)
}
