//! Durability: what was answered is there after a crash.

use super::{
    case::cases,
    make::{self, limited, offer, rule},
    scene::{Check, Scene},
};
use crate::{
    domain::{OrderKey, Per, Strategy, Subject, Timestamp},
    ledger::{Consumer, state_machine::Inspection},
};

cases! {
    Deciding:
        what_was_answered_survives_a_crash,
        a_ledger_goes_on_after_a_crash;
    Gate:
        a_gate_survives_a_crash;
    Truth:
        a_truth_survives_a_crash;
}

/// Crashes and goes on with what is durable. A ledger that was never meant to last goes on as it is.
async fn crash(scene: &mut Scene) -> Check {
    scene.note("crash and start again");
    if let Some(again) = scene.subject.probe.restart().await {
        scene.subject = again;
    }
    let now = scene.now();
    scene.time_at(now).await
}

/// What is stored, without the times of lanes.
async fn stored(scene: &Scene) -> Result<Inspection, super::Failure> {
    let mut inspection = scene.inspect(scene.activity()).await?;
    for lane in &mut inspection.lanes {
        lane.last = Timestamp::EPOCH;
    }
    Ok(inspection)
}

/// After each kind of step the ledger is what it was before the crash.
async fn survives(scene: &mut Scene) -> Check {
    let before = stored(scene).await?;
    crash(scene).await?;
    let after = stored(scene).await?;
    scene.same("what is stored", before, after)
}

async fn what_was_answered_survives_a_crash(scene: &mut Scene) -> Check {
    let mail = Consumer::new("mail");
    scene.ok("registered", scene.ledger().register(&mail).await)?;
    let offers = vec![limited(offer(1, Strategy::PreDeduct, 20), &[rule(Subject::User, Per::Offer, 9)])];
    scene.open(offers).await?;
    survives(scene).await?;
    let ask = scene.ask(1);
    let order = scene.place_ask(ask).await?;
    survives(scene).await?;
    scene.reserve(ask, "replayed pending").await?;
    scene.open_payment(&order, 1, "done paying").await?;
    survives(scene).await?;
    scene.capture(&order, 1, 1, "done paid").await?;
    survives(scene).await?;
    scene.capture(&order, 1, 1, "replayed paid").await?;
    scene.refund(&order, false, "done paid").await?;
    survives(scene).await?;
    let cancelled = scene.place(2).await?;
    scene.cancel(&cancelled, "done cancelled").await?;
    survives(scene).await?;
    scene.adjust("more", 5, "done").await?;
    scene.amend(make::limits(1, &[rule(Subject::User, Per::Activity, 2)])).await?;
    survives(scene).await?;
    scene.adjust("more", 5, "replayed").await?;
    let expiring = scene.place(3).await?;
    scene.time(100).await?;
    scene.expire(3, (1, 0)).await?;
    survives(scene).await?;
    scene.status(&expiring, "expired").await?;
    let waiting = scene.place(4).await?;
    let kept = scene.ledger().keep_unmatched(make::capture_of(&waiting, 44, 44)).await;
    scene.ok("kept", kept)?;
    let lane = scene.lane(1);
    let entries = scene.ok("events", scene.ledger().events(&mail, lane, None, 99).await)?;
    scene.ok("acknowledged", scene.ledger().ack(&mail, lane, entries[3].position).await)?;
    survives(scene).await?;
    let again = scene.ok("events", scene.ledger().events(&mail, lane, None, 99).await)?;
    scene.same("entries", &entries[3..], &again)?;
    scene.open_payment(&waiting, 44, "done paid").await
}

async fn a_ledger_goes_on_after_a_crash(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 40)]).await?;
    let mut orders: Vec<OrderKey> = Vec::new();
    for round in 0..6 {
        for buyer in 1..=5 {
            let order = scene.place(buyer).await?;
            orders.push(order.key);
            if buyer % 2 == 0 {
                scene.pay(&order).await?;
            }
        }
        crash(scene).await?;
        for key in &orders {
            scene.order(key.id, key.user.value()).await?;
        }
        let held = 3 * (round + 1);
        let sold = 2 * (round + 1);
        scene.stock(1, [40 - held - sold, held, sold]).await?;
    }
    scene.time(100).await?;
    scene.expire(1, (18, 0)).await?;
    survives(scene).await
}

async fn a_gate_survives_a_crash(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    survives(scene).await?;
    for buyer in 1..=6 {
        let ask = scene.ask(buyer);
        scene.admitted(ask).await?;
    }
    scene.adjust("less", -1, "done").await?;
    survives(scene).await?;
    scene.pump().await?;
    survives(scene).await?;
    let next = scene.next_epoch().await?;
    for part in scene.content(2).await? {
        scene.load(next.epoch, part, "ok").await?;
        crash(scene).await?;
    }
    scene.reopen(next.epoch, next.batch, "ok").await?;
    survives(scene).await?;
    scene.gate_stock([13, 6, 0]).await?;
    scene.note("close");
    scene.ok("closed", scene.gate().close(scene.activity(), next.epoch).await)?;
    crash(scene).await?;
    let ask = scene.ask(7);
    scene.admit(ask, "not_ready").await.map(drop)
}

async fn a_truth_survives_a_crash(scene: &mut Scene) -> Check {
    scene.open_tiers(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    survives(scene).await?;
    for round in 1..=3 {
        for buyer in 1..=4 {
            let ask = scene.ask(buyer);
            scene.admitted(ask).await?;
        }
        for lane in scene.lanes() {
            let (position, entries) = scene.unpersisted(lane).await?;
            let last = entries.last().map_or(position, |entry| entry.position);
            scene.persist(lane).await?;
            survives(scene).await?;
            let after = scene.ok("position", scene.truth().position(lane).await)?;
            scene.same("position", last, after)?;
        }
        scene.truth_stock([20 - 4 * round, 4 * round, 0]).await?;
    }
    let next = scene.next_epoch().await?;
    crash(scene).await?;
    let epoch = scene.ok("epoch", scene.truth().epoch(scene.activity()).await)?;
    scene.same("epoch", next.epoch, epoch)
}
