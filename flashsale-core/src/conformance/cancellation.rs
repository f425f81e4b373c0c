//! Cancellation: whoever ends an order first releases its units; nobody releases them again.

use super::{
    case::cases,
    make::{self, STRATEGIES, offer},
    scene::{Check, Scene},
};
use crate::{
    domain::Strategy,
    ledger::{Advance, Consumer, Event, LedgerCalls as _, OrderChange},
};

cases! {
    Deciding:
        cancelling_twice_takes_no_units_from_another_order,
        cancel_expiry_and_refund_release_units_once,
        an_operator_cancellation_names_the_operator,
        an_open_payment_must_be_closed_before_cancelling,
        steps_in_a_batch_are_taken_in_order,
        a_batch_with_a_step_for_another_lane_is_rejected_whole;
}

/// Mistake: a second release takes the units of another order, or exceeds the total.
async fn cancelling_twice_takes_no_units_from_another_order(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        scene.open(vec![offer(1, strategy, 2)]).await?;
        let (first, second) = (scene.place(1).await?, scene.place(2).await?);
        scene.open_payment(&second, second.key.id.value(), "done paying").await?;
        scene.cancel(&first, "done cancelled").await?;
        for _ in 0..3 {
            scene.cancel(&first, "replayed cancelled").await?;
            scene.stock(1, [1, 1, 0]).await?;
        }
        scene.fail_payment(&second, second.key.id.value(), "done pending").await?;
        scene.cancel(&second, "done cancelled").await?;
        scene.cancel(&second, "replayed cancelled").await?;
        scene.stock(1, [2, 0, 0]).await?;
    }
    Ok(())
}

/// The event must name the operator, so the cancellation can be attributed later.
async fn an_operator_cancellation_names_the_operator(scene: &mut Scene) -> Check {
    let consumer = Consumer::new("audit");
    scene.note("register audit");
    scene.ok("register", scene.ledger().register(&consumer).await)?;
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let (mine, theirs) = (scene.place(1).await?, scene.place(1).await?);
    let by = Some(make::by());
    scene.advance(Advance::Cancel { order: mine.key, by: by.clone() }, "done cancelled").await?;
    scene.advance(Advance::Cancel { order: mine.key, by }, "replayed cancelled").await?;
    scene.cancel(&theirs, "done cancelled").await?;
    scene.stock(1, [5, 0, 0]).await?;
    let entries = scene.ledger().events(&consumer, scene.lane(1), None, 99).await;
    let entries = scene.ok("events", entries)?;
    let ends: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::Order { id, change, .. } if !matches!(change, OrderChange::Placed(_)) => {
                Some((id, change))
            }
            _ => None,
        })
        .collect();
    let expected =
        vec![(mine.key.id, OrderChange::CancelledBy(make::by())), (theirs.key.id, OrderChange::Cancelled)];
    scene.same("who cancelled what", expected, ends)
}

/// Mistake: cancel, expiry and an operator each release the units.
async fn cancel_expiry_and_refund_release_units_once(scene: &mut Scene) -> Check {
    for first in 0..3 {
        scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
        let order = scene.place(1).await?;
        scene.place(2).await?;
        scene.time(50).await?;
        let third = scene.ask(3).units(3);
        scene.place_ask(third).await?;
        match first {
            0 => scene.cancel(&order, "done cancelled").await?,
            1 => {}
            _ => {
                scene.pay(&order).await?;
                scene.refund(&order, true, "done paid").await?;
            }
        }
        scene.time(100).await?;
        scene.expire(1, (if first == 1 { 2 } else { 1 }, 0)).await?;
        let status = ["replayed cancelled", "wrong_state expired", "wrong_state paid"][first];
        scene.cancel(&order, status).await?;
        let status = ["wrong_state cancelled", "wrong_state expired", "replayed paid"][first];
        scene.refund(&order, true, status).await?;
        scene.expire(1, (0, 0)).await?;
        scene.stock(1, [2, 3, 0]).await?;
    }
    Ok(())
}

async fn an_open_payment_must_be_closed_before_cancelling(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        scene.open(vec![offer(1, strategy, 5)]).await?;
        let order = scene.place(1).await?;
        let payment = order.key.id.value();
        scene.open_payment(&order, payment, "done paying").await?;
        scene.cancel(&order, "wrong_state paying").await?;
        scene.stock(1, [4, 1, 0]).await?;
        scene.close_payment(&order, payment, "done pending").await?;
        scene.cancel(&order, "done cancelled").await?;
        scene.stock(1, [5, 0, 0]).await?;
    }
    Ok(())
}

async fn steps_in_a_batch_are_taken_in_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let order = scene.place(1).await?;
    let payment = super::make::payment_id(1);
    let provider = super::make::provider("sandbox");
    let steps = vec![
        Advance::OpenPayment { order: order.key, payment, provider, in_parts: false },
        Advance::Cancel { order: order.key, by: None },
        Advance::PaymentFailed { order: order.key, payment },
        Advance::Cancel { order: order.key, by: None },
        Advance::Cancel { order: order.key, by: None },
    ];
    scene.note(format!("{steps:?}"));
    let answer = scene.ok("advance", scene.ledger().advance(scene.lane(1), steps).await)?;
    let expected =
        ["done paying", "wrong_state paying", "done pending", "done cancelled", "replayed cancelled"];
    let observed: Vec<_> = answer.outcomes.iter().map(super::name::of_advanced).collect();
    scene.same("outcomes", expected.map(String::from).to_vec(), observed)?;
    scene.check().await?;
    scene.stock(1, [5, 0, 0]).await
}

/// An error covers the whole batch: none of its steps was taken.
async fn a_batch_with_a_step_for_another_lane_is_rejected_whole(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let (mine, mut other) = (scene.place(1).await?, scene.place(2).await?);
    other.key.activity = super::make::activity(999);
    let steps =
        vec![Advance::Cancel { order: mine.key, by: None }, Advance::Cancel { order: other.key, by: None }];
    scene.note(format!("{steps:?}"));
    let result = scene.ledger().advance(scene.lane(1), steps).await;
    scene.same("advance", "error: invalid", super::name::of_result(&result))?;
    scene.check().await?;
    scene.status(&mine, "pending").await?;
    scene.stock(1, [3, 2, 0]).await
}
