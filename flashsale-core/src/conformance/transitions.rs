//! Transitions: each step twice, and each pair of steps in both orders, from every status.

use super::{
    case::cases,
    make::STRATEGIES,
    scene::{Check, Scene},
    table::{ALL, At, STEPS, Step, bring, build},
    word,
};
use crate::{
    domain::{LateCapture, Order, OrderStatus, Strategy},
    ledger::{Advance, Advanced},
};

cases! {
    Deciding:
        every_pair_of_steps_in_both_orders,
        every_pair_of_steps_in_one_batch;
}

/// After any two steps the units are where the status says, the status moved along its arrows, and a repetition of
/// either step changes nothing.
async fn every_pair_of_steps_in_both_orders(scene: &mut Scene) -> Check {
    for (strategy, at, first, second) in pairs() {
        let order = bring(scene, strategy, at, LateCapture::Retake).await?;
        let (one, two) = (build(scene, &order, at, first), build(scene, &order, at, second));
        scene.note(format!("{strategy:?}: {at:?} meets {first:?}, then {second:?}"));
        let mut before = scene.order(order.key.id, 1).await?;
        for step in [&one, &two] {
            take(scene, step).await?;
            let after = scene.order(order.key.id, 1).await?;
            let moved = before.status == after.status || before.status.may_become(after.status);
            scene.holds("a status that moves along its arrows", moved, (before.status, after.status))?;
            before = after;
        }
        rests(scene, strategy, &before).await?;
        for step in [&two, &two] {
            let again = take(scene, step).await?;
            let changed = matches!(again, Advanced::Done(_) | Advanced::RefundDue(..) | Advanced::Retaken(_));
            scene.holds("nothing new of a repetition", !changed, word::of_advanced(&again))?;
            let after = scene.order(order.key.id, 1).await?;
            scene.same("the order", &before, &after)?;
        }
        rests(scene, strategy, &before).await?;
    }
    Ok(())
}

/// Two steps in one batch are answered as one after the other.
async fn every_pair_of_steps_in_one_batch(scene: &mut Scene) -> Check {
    for (strategy, at, first, second) in pairs().filter(|(strategy, ..)| *strategy == Strategy::PreDeduct) {
        let mut told = Vec::new();
        for together in [false, true] {
            let order = bring(scene, strategy, at, LateCapture::Refund).await?;
            let steps = vec![build(scene, &order, at, first), build(scene, &order, at, second)];
            scene.note(format!("{at:?} meets {first:?} and {second:?}, in one batch: {together}"));
            let lane = scene.lane(1);
            let batches =
                if together { vec![steps] } else { steps.into_iter().map(|step| vec![step]).collect() };
            let mut outcomes = Vec::new();
            for batch in batches {
                let answer = scene.ok("advances", scene.ledger().advance(lane, batch).await)?;
                outcomes.extend(answer.outcomes.iter().map(word::of_advanced));
            }
            scene.check().await?;
            told.push(outcomes);
        }
        scene.same("outcomes", &told[0], &told[1])?;
    }
    Ok(())
}

fn pairs() -> impl Iterator<Item = (Strategy, At, Step, Step)> {
    let all = STRATEGIES.into_iter().flat_map(|strategy| ALL.into_iter().map(move |at| (strategy, at)));
    // An order-time order has no deadline here.
    let all = all.filter(|(strategy, at)| *strategy != Strategy::OrderTime || *at != At::Expired);
    all.flat_map(|(strategy, at)| {
        STEPS
            .into_iter()
            .flat_map(move |first| STEPS.into_iter().map(move |second| (strategy, at, first, second)))
    })
}

async fn take(scene: &mut Scene, step: &Advance) -> Result<Advanced, super::Failure> {
    scene.note(format!("{step:?}"));
    let answer = scene.ok("advances", scene.ledger().advance(scene.lane(1), vec![step.clone()]).await)?;
    scene.check().await?;
    let outcome = answer.outcomes.into_iter().next();
    outcome.ok_or_else(|| scene.failure("an outcome", "none".into()))
}

/// The ten units are where the order's status says; an order that replaces it has two of its own.
async fn rests(scene: &Scene, strategy: Strategy, order: &Order) -> Check {
    let mut expected = match order.status {
        OrderStatus::Pending if strategy == Strategy::PayTime => [10, 0, 0],
        OrderStatus::Pending | OrderStatus::Paying => [8, 2, 0],
        OrderStatus::Paid if !order.units_returned => [8, 0, 2],
        _ => [10, 0, 0],
    };
    if let Some(id) = order.replaced_by {
        let replacement = scene.order(id, order.key.user.value()).await?;
        scene.same("the replacement", OrderStatus::Paid, replacement.status)?;
        expected = [8, 0, 2];
    }
    scene.stock(1, expected).await
}
