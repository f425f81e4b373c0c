//! Transitions: from every status, each step twice and each pair of steps in both orders.

use super::{
    case::cases,
    make::STRATEGIES,
    name,
    scene::{Check, Scene},
    status_table::{ALL, At, STEPS, Step, bring, build},
};
use crate::{
    domain::{LateCapture, Order, OrderStatus, Strategy},
    ledger::{Advance, Advanced, LedgerCalls as _},
};

cases! {
    Deciding:
        any_two_steps_leave_the_units_where_the_status_says,
        two_steps_in_one_batch_equal_two_batches;
}

/// After any two steps the units are where the status says, every status change was allowed, and
/// repeating the second step changes nothing.
async fn any_two_steps_leave_the_units_where_the_status_says(scene: &mut Scene) -> Check {
    for (strategy, at, first, second) in pairs() {
        let order = bring(scene, strategy, at, LateCapture::Retake).await?;
        let (one, two) = (build(scene, &order, at, first), build(scene, &order, at, second));
        scene.note(format!("{strategy:?}, {at:?} order: {first:?}, then {second:?}"));
        let mut before = scene.order(order.key.id, 1).await?;
        for step in [&one, &two] {
            take(scene, step).await?;
            let after = scene.order(order.key.id, 1).await?;
            let moved = before.status == after.status || before.status.may_become(after.status);
            scene.holds("the status change is allowed", moved, (before.status, after.status))?;
            before = after;
        }
        check_units(scene, strategy, &before).await?;
        for step in [&two, &two] {
            let again = take(scene, step).await?;
            let changed = matches!(again, Advanced::Done(_) | Advanced::RefundDue(..) | Advanced::Retaken(_));
            scene.holds("the repetition changes nothing", !changed, name::of_advanced(&again))?;
            let after = scene.order(order.key.id, 1).await?;
            scene.same("order after the repetition", &before, &after)?;
        }
        check_units(scene, strategy, &before).await?;
    }
    Ok(())
}

/// Two steps in one batch get the same answers as in two batches.
async fn two_steps_in_one_batch_equal_two_batches(scene: &mut Scene) -> Check {
    for (strategy, at, first, second) in pairs().filter(|(strategy, ..)| *strategy == Strategy::PreDeduct) {
        let mut answers = Vec::new();
        for together in [false, true] {
            let order = bring(scene, strategy, at, LateCapture::Refund).await?;
            let steps = vec![build(scene, &order, at, first), build(scene, &order, at, second)];
            scene.note(format!("{at:?} order: {first:?} and {second:?}, in one batch: {together}"));
            let lane = scene.lane(1);
            let batches =
                if together { vec![steps] } else { steps.into_iter().map(|step| vec![step]).collect() };
            let mut outcomes = Vec::new();
            for batch in batches {
                let answer = scene.ok("advance", scene.ledger().advance(lane, batch).await)?;
                outcomes.extend(answer.outcomes.iter().map(name::of_advanced));
            }
            scene.check().await?;
            answers.push(outcomes);
        }
        scene.same("outcomes in one batch", &answers[0], &answers[1])?;
    }
    Ok(())
}

fn pairs() -> impl Iterator<Item = (Strategy, At, Step, Step)> {
    let all = STRATEGIES.into_iter().flat_map(|strategy| ALL.into_iter().map(move |at| (strategy, at)));
    // Order-time orders have no deadline here.
    let all = all.filter(|(strategy, at)| *strategy != Strategy::OrderTime || *at != At::Expired);
    all.flat_map(|(strategy, at)| {
        STEPS
            .into_iter()
            .flat_map(move |first| STEPS.into_iter().map(move |second| (strategy, at, first, second)))
    })
}

async fn take(scene: &mut Scene, step: &Advance) -> Result<Advanced, super::Failure> {
    scene.note(format!("{step:?}"));
    let answer = scene.ok("advance", scene.ledger().advance(scene.lane(1), vec![step.clone()]).await)?;
    scene.check().await?;
    let outcome = answer.outcomes.into_iter().next();
    outcome.ok_or_else(|| scene.failure("`advance` returns an outcome", "none".into()))
}

/// Checks that the ten units are where the order's status says; a replacement has two of them.
async fn check_units(scene: &Scene, strategy: Strategy, order: &Order) -> Check {
    let mut expected = match order.status {
        OrderStatus::Pending if strategy == Strategy::PayTime => [10, 0, 0],
        OrderStatus::Pending | OrderStatus::Paying => [8, 2, 0],
        OrderStatus::Paid if order.units_returned == 0 => [8, 0, 2],
        _ => [10, 0, 0],
    };
    if let Some(id) = order.replaced_by {
        let replacement = scene.order(id, order.key.user.value()).await?;
        scene.same("status of the replacement", OrderStatus::Paid, replacement.status)?;
        expected = [8, 0, 2];
    }
    scene.stock(1, expected).await
}
