//! Durability: what was answered survives a crash.

use super::{
    case::cases,
    make::{self, limited, offer, rule},
    scene::{Check, Scene},
};
use crate::{
    domain::{OrderKey, Per, Strategy, Subject, Timestamp},
    ledger::{Consumer, LedgerCalls as _, state_machine::Inspection},
};

cases! {
    Deciding:
        answered_calls_survive_a_crash,
        a_ledger_survives_repeated_crashes;
    Gate:
        a_gate_survives_a_crash;
    Truth:
        a_truth_survives_a_crash;
}

/// Crashes and continues with what is durable. A ledger that is not durable continues as it is.
pub(super) async fn crash(scene: &mut Scene) -> Check {
    scene.note("crash and restart");
    if let Some(again) = scene.subject.probe.restart().await {
        scene.subject = again;
    }
    let now = scene.now();
    scene.time_at(now).await
}

/// Returns what is stored, without the times of lanes.
async fn stored(scene: &Scene) -> Result<Inspection, super::Failure> {
    let mut inspection = scene.inspect(scene.activity()).await?;
    for lane in &mut inspection.lanes {
        lane.last = Timestamp::EPOCH;
    }
    Ok(inspection)
}

/// Crashes and checks that the ledger stores the same as before.
async fn survives(scene: &mut Scene) -> Check {
    let before = stored(scene).await?;
    crash(scene).await?;
    let after = stored(scene).await?;
    scene.same("stored content after the crash", before, after)
}

async fn answered_calls_survive_a_crash(scene: &mut Scene) -> Check {
    let mail = Consumer::new("mail");
    scene.ok("register", scene.ledger().register(&mail).await)?;
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
    let kept = scene.ledger().keep_unmatched(scene.lane(4), make::capture_of(&waiting, 44, 44)).await;
    scene.ok("keep_unmatched", kept)?;
    let lane = scene.lane(1);
    let entries = scene.ok("events", scene.ledger().events(&mail, lane, None, 99).await)?;
    scene.ok("ack", scene.ledger().ack(&mail, lane, entries[3].position).await)?;
    survives(scene).await?;
    let again = scene.ok("events", scene.ledger().events(&mail, lane, None, 99).await)?;
    scene.same("unacknowledged entries", &entries[3..], &again)?;
    scene.open_payment(&waiting, 44, "done paid").await
}

async fn a_ledger_survives_repeated_crashes(scene: &mut Scene) -> Check {
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
    scene.adjust("remove", -1, "done").await?;
    survives(scene).await?;
    scene.pump().await?;
    survives(scene).await?;
    let next = scene.next_epoch().await?;
    for chunk in scene.content(2).await? {
        scene.load(next.epoch, chunk, "ok").await?;
        crash(scene).await?;
    }
    scene.reopen(next.epoch, next.batch, "ok").await?;
    survives(scene).await?;
    scene.gate_stock([13, 6, 0]).await?;
    scene.note("close");
    scene.ok("close", scene.gate().close(scene.activity(), next.epoch).await)?;
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
