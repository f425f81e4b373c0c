//! Expiry: orders that are not paid in time release their units once.

use super::{
    case::cases,
    make::{self, HOLD, STRATEGIES, capture_of, offer},
    scene::{Check, Scene},
};
use crate::{
    domain::{Money, OfferTerms, Order, PaymentStatus, Strategy},
    ledger::LedgerCalls as _,
};

cases! {
    Deciding:
        a_hold_ends_at_its_deadline,
        a_hold_without_a_deadline_never_expires,
        a_late_sweeper_loses_no_units,
        the_longest_overdue_orders_expire_first,
        after_a_failed_payment_the_first_deadline_applies,
        a_payment_may_outlast_the_hold,
        a_payment_outlasts_the_hold_by_at_most_the_cap,
        an_overdue_payment_is_handed_out_until_it_is_closed,
        an_order_with_an_unclosed_payment_expires_after_the_grace,
        closing_a_payment_after_its_deadline_expires_the_order,
        a_capture_while_the_payment_is_being_closed_pays,
        expired_orders_stay_expired;
}

async fn a_hold_ends_at_its_deadline(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        let price = Money::new(make::PRICE, "CNY".parse().expect("valid currency")).expect("valid price");
        let offer = OfferTerms::new(make::sku(1), price, 9, strategy, Some(HOLD)).expect("valid offer");
        scene.open(vec![offer]).await?;
        let order = scene.place(1).await?;
        scene.same("deadline", Some(scene.moment(100)), order.deadline)?;
        scene.time_at(scene.moment(100).before(std::time::Duration::from_millis(1))).await?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", Some(scene.moment(100)), due.next)?;
        scene.time(100).await?;
        let due = scene.expire(1, (1, 0)).await?;
        scene.same("expired", vec![order.key], due.expired)?;
        scene.same("next", None, due.next)?;
        scene.status(&order, "expired").await?;
        scene.stock(1, [9, 0, 0]).await?;
        scene.expire(1, (0, 0)).await?;
    }
    Ok(())
}

async fn a_hold_without_a_deadline_never_expires(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let order = scene.place(1).await?;
    scene.same("deadline", None, order.deadline)?;
    scene.time(100_000_000).await?;
    let due = scene.expire(1, (0, 0)).await?;
    scene.same("next", None, due.next)?;
    scene.pay(&order).await
}

/// Mistake: a hold's record has a TTL, so the unit is lost when the sweeper is late.
async fn a_late_sweeper_loses_no_units(scene: &mut Scene) -> Check {
    for strategy in [Strategy::PayTime, Strategy::PreDeduct] {
        scene.open(vec![offer(1, strategy, 2)]).await?;
        let (waiting, paying) = (scene.place(1).await?, scene.place(2).await?);
        let payment = scene.fresh();
        scene.open_payment(&paying, payment, "done paying").await?;
        scene.time(400 * 24 * 3_600).await?;
        scene.expire(1, (2, 0)).await?;
        scene.stock(1, [2, 0, 0]).await?;
        scene.status(&waiting, "expired").await?;
        scene.status(&paying, "expired").await?;
        scene.cancel(&waiting, "wrong_state expired").await?;
        scene.stock(1, [2, 0, 0]).await?;
    }
    Ok(())
}

async fn the_longest_overdue_orders_expire_first(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let mut keys = Vec::new();
    for second in [0, 3, 5, 9] {
        scene.time(second).await?;
        keys.push(scene.place(1).await?.key);
    }
    scene.time(107).await?;
    let lane = scene.lane(1);
    for (limit, expected) in [(0, &keys[..0]), (2, &keys[..2])] {
        scene.note(format!("expire at most {limit}"));
        let due = scene.ok("expire_due", scene.ledger().expire_due(lane, limit).await)?;
        scene.same("expired", expected, &due.expired)?;
    }
    let rest = scene.ok("expire_due", scene.ledger().expire_due(lane, 9).await)?;
    scene.same("next", Some(scene.moment(109)), rest.next)?;
    scene.same("expired", keys[2..3].to_vec(), rest.expired)?;
    scene.check().await?;
    scene.stock(1, [8, 1, 0]).await
}

/// Makes a paying order: placed at 0 with its deadline at 100, payment opened at `opened`.
async fn paying(scene: &mut Scene, strategy: Strategy, opened: u64) -> Result<Order, super::Failure> {
    scene.open(vec![offer(1, strategy, 9)]).await?;
    let order = scene.place(1).await?;
    scene.time(opened).await?;
    scene.open_payment(&order, order.key.id.value(), "done paying").await?;
    scene.order(order.key.id, 1).await
}

async fn after_a_failed_payment_the_first_deadline_applies(scene: &mut Scene) -> Check {
    let order = paying(scene, Strategy::PreDeduct, 90).await?;
    scene.fail_payment(&order, order.key.id.value(), "done pending").await?;
    let pending = scene.order(order.key.id, 1).await?;
    scene.same("deadline", Some(scene.moment(100)), pending.deadline)?;
    let due = scene.expire(1, (0, 0)).await?;
    scene.same("next", Some(scene.moment(100)), due.next)?;
    scene.time(100).await?;
    scene.expire(1, (1, 0)).await.map(drop)
}

async fn a_payment_may_outlast_the_hold(scene: &mut Scene) -> Check {
    // The payment window is 60 s: a payment lasts at least until the hold's deadline at 100.
    for (opened, deadline) in [(5, 100), (40, 100), (70, 130)] {
        let order = paying(scene, Strategy::PreDeduct, opened).await?;
        let payment = order.payment().expect("a payment is open").deadline;
        scene.same("the payment's deadline", scene.moment(deadline), payment)?;
        scene.time(deadline - 1).await?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", Some(scene.moment(deadline)), due.next)?;
    }
    Ok(())
}

async fn a_payment_outlasts_the_hold_by_at_most_the_cap(scene: &mut Scene) -> Check {
    let order = paying(scene, Strategy::PreDeduct, 99).await?;
    let payment = order.payment().expect("a payment is open").deadline;
    scene.same("the payment's deadline", scene.moment(140), payment)?;
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, 1, "done paying").await?;
    let payment = scene.order(order.key.id, 1).await?.payments[0].deadline;
    scene.same("the payment's deadline without a hold's deadline", scene.moment(60), payment)
}

async fn an_overdue_payment_is_handed_out_until_it_is_closed(scene: &mut Scene) -> Check {
    for strategy in [Strategy::PayTime, Strategy::PreDeduct] {
        let order = paying(scene, strategy, 0).await?;
        scene.time(100).await?;
        let due = scene.expire(1, (0, 1)).await?;
        let closing = &due.closing[0];
        scene.same("to close", (order.key, "sandbox"), (closing.order, closing.provider.as_str()))?;
        scene.same("time of the retry", scene.moment(110), closing.retry_at)?;
        scene.same("next", Some(scene.moment(110)), due.next)?;
        scene.time(109).await?;
        scene.expire(1, (0, 0)).await?;
        scene.time(110).await?;
        scene.expire(1, (0, 1)).await?;
        scene.status(&order, "paying").await?;
        scene.stock(1, [8, 1, 0]).await?;
        scene.close_payment(&order, order.key.id.value(), "done expired").await?;
        scene.close_payment(&order, order.key.id.value(), "replayed expired").await?;
        scene.stock(1, [9, 0, 0]).await?;
        scene.time(500).await?;
        scene.expire(1, (0, 0)).await?;
    }
    Ok(())
}

async fn an_order_with_an_unclosed_payment_expires_after_the_grace(scene: &mut Scene) -> Check {
    let order = paying(scene, Strategy::PreDeduct, 0).await?;
    scene.time(100).await?;
    scene.expire(1, (0, 1)).await?;
    scene.time(125).await?;
    let due = scene.expire(1, (0, 1)).await?;
    scene.same("next, capped by the grace period", Some(scene.moment(130)), due.next)?;
    scene.time(130).await?;
    let due = scene.expire(1, (1, 0)).await?;
    scene.same("expired", vec![order.key], due.expired)?;
    let order = scene.order(order.key.id, 1).await?;
    scene.same("status of the payment", PaymentStatus::Closed, order.payments[0].status)?;
    scene.stock(1, [9, 0, 0]).await?;
    let late = capture_of(&order, order.payments[0].id.value(), 1);
    scene.capture_as(&order, late, "refund_due expired order_closed").await?;
    let order = scene.order(order.key.id, 1).await?;
    scene.same("status of the payment", PaymentStatus::Captured, order.payments[0].status)
}

async fn closing_a_payment_after_its_deadline_expires_the_order(scene: &mut Scene) -> Check {
    let order = paying(scene, Strategy::PreDeduct, 70).await?;
    scene.time(129).await?;
    // The hold's deadline has passed but the payment's has not: the order is pending, and due.
    scene.close_payment(&order, order.key.id.value(), "done pending").await?;
    scene.expire(1, (1, 0)).await?;
    let order = paying(scene, Strategy::PreDeduct, 70).await?;
    scene.time(130).await?;
    scene.close_payment(&order, order.key.id.value(), "done expired").await?;
    scene.stock(1, [9, 0, 0]).await
}

async fn a_capture_while_the_payment_is_being_closed_pays(scene: &mut Scene) -> Check {
    for strategy in [Strategy::PayTime, Strategy::PreDeduct] {
        let order = paying(scene, strategy, 0).await?;
        let payment = order.key.id.value();
        scene.time(100).await?;
        scene.expire(1, (0, 1)).await?;
        scene.capture(&order, payment, payment, "done paid").await?;
        scene.close_payment(&order, payment, "replayed paid").await?;
        scene.time(1_000).await?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", None, due.next)?;
        scene.stock(1, [8, 0, 1]).await?;
    }
    Ok(())
}

async fn expired_orders_stay_expired(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 1)]).await?;
    let first = scene.place(1).await?;
    scene.time(100).await?;
    scene.expire(1, (1, 0)).await?;
    let second = scene.place(2).await?;
    scene.cancel(&first, "wrong_state expired").await?;
    scene.open_payment(&first, 1, "wrong_state expired").await?;
    scene.expire(1, (0, 0)).await?;
    // Releasing the first order again would give away the second order's unit.
    scene.stock(1, [0, 1, 0]).await?;
    scene.status(&second, "pending").await
}
