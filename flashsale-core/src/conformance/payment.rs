//! Payments: a capture pays for one order, or its refund is due.

use super::{
    case::cases,
    make::{self, PRICE, STRATEGIES, capture_of, offer, provider},
    name,
    scene::{Check, Scene},
    status_table::{At, bring},
};
use crate::{
    domain::{
        Capture, Dispute, LateCapture, Money, OfferTerms, Order, PaymentStatus, RefundStatus,
        ReversalKind::{DisputeLost, DisputeWon, Disputed, Refunded},
        Strategy,
    },
    ledger::{Advance, Advanced, Kept, Lane, LedgerCalls as _, PaymentRef, RefundOutcome},
};

cases! {
    Deciding:
        an_order_has_one_open_payment,
        a_payment_id_belongs_to_one_order,
        a_wrong_amount_leaves_the_order_unchanged,
        a_repeated_capture_changes_nothing,
        a_known_id_with_other_content_is_a_conflict,
        payments_may_share_event_and_transaction_ids,
        a_second_channel_that_pays_is_refunded,
        a_late_capture_does_not_revive_a_cancelled_order,
        a_late_capture_makes_a_new_order,
        a_late_capture_without_units_is_refunded,
        an_early_capture_is_applied_when_its_payment_opens,
        kept_captures_that_do_not_pay_are_refunded,
        a_capture_of_a_known_payment_is_not_kept,
        a_capture_in_an_unknown_activity_is_not_kept,
        a_free_order_is_paid_when_it_is_placed,
        pay_time_orders_are_bounded_by_the_overbook_percentage,
        pay_time_takes_units_when_the_payment_opens,
        a_failed_payment_releases_pay_time_units,
        parts_add_up_to_the_amount,
        parts_whose_rest_never_comes_are_refunded,
        a_payment_in_full_refunds_the_parts_of_another,
        a_refund_is_settled_once,
        a_refund_returns_units_only_if_told_to,
        a_part_of_an_order_can_be_refunded,
        money_sent_back_at_the_provider_is_not_sent_again,
        a_report_of_our_own_refund_is_no_second_one,
        a_report_settles_the_refund_that_it_is_about,
        what_goes_back_at_the_provider_reduces_what_is_owed,
        money_of_a_replaced_order_goes_back_from_its_own_receipt,
        reversals_that_contradict_are_conflicts,
        no_refund_is_sent_while_a_dispute_is_open,
        a_lost_dispute_takes_the_money_back,
        refunds_due_are_listed_until_settled,
        an_order_can_be_found_by_its_payment;
}

async fn an_order_has_one_open_payment(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, 1, "done paying").await?;
    scene.open_payment(&order, 1, "replayed paying").await?;
    // While a payment is open, a request with another id gets the open one.
    scene.open_payment(&order, 2, "replayed paying").await?;
    let open = scene.order(order.key.id, 1).await?;
    scene.same(
        "payments",
        vec![make::payment_id(1)],
        open.payments.iter().map(|payment| payment.id).collect(),
    )?;
    scene.fail_payment(&order, 1, "done pending").await?;
    scene.open_payment(&order, 2, "done paying").await?;
    let statuses: Vec<_> =
        scene.order(order.key.id, 1).await?.payments.iter().map(|payment| payment.status).collect();
    scene.same("statuses of the payments", vec![PaymentStatus::Failed, PaymentStatus::Open], statuses)
}

async fn a_payment_id_belongs_to_one_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let (first, second) = (scene.place(1).await?, scene.place(2).await?);
    scene.open_payment(&first, 1, "done paying").await?;
    scene.open_payment(&second, 1, "id_taken").await?;
    scene.status(&second, "pending").await
}

/// A capture of a wrong amount or currency does not pay for the order; its refund is due.
async fn a_wrong_amount_leaves_the_order_unchanged(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        for (wrong, amount, currency) in
            [(1, 2 * PRICE - 1, "CNY"), (2, 2 * PRICE + 1, "CNY"), (3, 0, "CNY"), (4, 2 * PRICE, "USD")]
        {
            let order = bring(scene, strategy, At::Paying, LateCapture::Refund).await?;
            let paying = scene.order(order.key.id, 1).await?;
            let payment = paying.payment().expect("a payment is open").id.value();
            let right = capture_of(&order, payment, 1_000 * order.key.id.value());
            let capture = Capture {
                amount,
                currency: currency.parse().expect("valid currency"),
                ..capture_of(&order, payment, 1_000 * order.key.id.value() + wrong)
            };
            scene.capture_as(&order, capture.clone(), "refund_due paying wrong_amount").await?;
            scene.capture_as(&order, capture, "replayed paying").await?;
            scene.stock(1, [8, 2, 0]).await?;
            scene.capture_as(&order, right, "done paid").await?;
            scene.stock(1, [8, 0, 2]).await?;
        }
    }
    Ok(())
}

/// Captures are deduplicated by (provider, event) and by (provider, transaction).
async fn a_repeated_capture_changes_nothing(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, 1, "done paying").await?;
    let first = capture_of(&order, 1, 1);
    scene.capture_as(&order, first.clone(), "done paid").await?;
    scene.capture_as(&order, first.clone(), "replayed paid").await?;
    // Closing a payment reports its capture without the event of the callback.
    let other_event = Capture { event: "evt-other".parse().expect("valid text"), ..first.clone() };
    scene.capture_as(&order, other_event, "replayed paid").await?;
    let other_provider = Capture { provider: provider("another"), ..first };
    scene.capture_as(&order, other_provider, "refund_due paid paid_twice").await?;
    let receipts = scene.order(order.key.id, 1).await?.receipts.len();
    scene.same("number of receipts", 2, receipts)?;
    scene.stock(1, [8, 0, 1]).await
}

/// Mistake: a report with a known event or transaction id is answered as a repeat, and its money
/// is forgotten.
async fn a_known_id_with_other_content_is_a_conflict(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, 1, "done paying").await?;
    let first = capture_of(&order, 1, 1);
    scene.capture_as(&order, first.clone(), "done paid").await?;
    let other_transaction =
        Capture { transaction: "txn-other".parse().expect("valid text"), ..first.clone() };
    scene.capture_as(&order, other_transaction, "conflict").await?;
    let other_amount = Capture { amount: 1, ..first.clone() };
    scene.capture_as(&order, other_amount, "conflict").await?;
    // Payments that are not open any more: of another order of the buyer, and of another buyer's.
    for (buyer, payment) in [(1, 2), (2, 3)] {
        let late = scene.place(buyer).await?;
        scene.open_payment(&late, payment, "done paying").await?;
        scene.close_payment(&late, payment, "done pending").await?;
        let reused =
            Capture { transaction: first.transaction.clone(), ..capture_of(&late, payment, payment) };
        scene.capture_as(&late, reused, "conflict").await?;
        scene.status(&late, "pending").await?;
    }
    scene.stock(1, [6, 2, 1]).await
}

/// Mistake: providers whose event ids cover several items, or whose transaction ids are unique per
/// terminal only, pay one order; the money of the others vanishes.
async fn payments_may_share_event_and_transaction_ids(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let mut orders = Vec::new();
    for payment in 1..=3 {
        let order = scene.place(1).await?;
        scene.open_payment(&order, payment, "done paying").await?;
        orders.push(order);
    }
    let shared = capture_of(&orders[0], 1, 1);
    let same_event = Capture { event: shared.event.clone(), ..capture_of(&orders[1], 2, 2) };
    let same_transaction =
        Capture { transaction: shared.transaction.clone(), ..capture_of(&orders[2], 3, 3) };
    for (order, capture) in orders.iter().zip([shared, same_event, same_transaction]) {
        scene.capture_as(order, capture.clone(), "done paid").await?;
        scene.capture_as(order, capture, "replayed paid").await?;
    }
    // Each refund is settled for its own payment, though two share a transaction id.
    scene.refund(&orders[0], true, "done paid").await?;
    scene.refund(&orders[2], true, "done paid").await?;
    settled(scene, &orders[0], 1, 1, RefundOutcome::Done, "done paid").await?;
    settled(scene, &orders[0], 3, 1, RefundOutcome::Done, "not_found").await?;
    let due = scene.order(orders[2].key.id, 1).await?.refund().map(|refund| refund.status);
    scene.same("refund of the other payment", Some(RefundStatus::Due), due)?;
    scene.stock(1, [8, 0, 1]).await
}

async fn a_second_channel_that_pays_is_refunded(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        let order = bring(scene, strategy, At::Paid, LateCapture::Refund).await?;
        let first = scene.order(order.key.id, 1).await?.payments[0].id.value();
        let other = Capture { provider: provider("alipay"), ..capture_of(&order, first, first + 700) };
        scene.capture_as(&order, other, "refund_due paid paid_twice").await?;
        scene.stock(1, [8, 0, 2]).await?;
        scene.status(&order, "paid").await?;
    }
    Ok(())
}

/// Mistake: a late "paid" callback revives a cancelled order and takes its units again.
async fn a_late_capture_does_not_revive_a_cancelled_order(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        let order = bring(scene, strategy, At::Cancelled, LateCapture::Retake).await?;
        let payment = scene.order(order.key.id, 1).await?.payments[0].id.value();
        scene.capture(&order, payment, payment, "refund_due cancelled order_closed").await?;
        scene.stock(1, [10, 0, 0]).await?;
        scene.status(&order, "cancelled").await?;
    }
    Ok(())
}

/// A payment arrives after the hold was released.
async fn a_late_capture_makes_a_new_order(scene: &mut Scene) -> Check {
    for strategy in [Strategy::PayTime, Strategy::PreDeduct] {
        let old = bring(scene, strategy, At::Expired, LateCapture::Retake).await?;
        let payment = scene.order(old.key.id, 1).await?.payments[0].id.value();
        let retaken = scene.capture(&old, payment, payment, "retaken paid").await?;
        let Advanced::Retaken(new) = retaken else {
            return Err(scene.failure("a new order replaces the expired one", format!("{retaken:?}")));
        };
        scene.same("replaces", Some(old.key.id), new.replaces)?;
        scene.holds("the new order has its own id", new.key.id != old.key.id, new.key)?;
        scene.same("amount", old.amount, new.amount)?;
        let before = scene.order(old.key.id, 1).await?;
        scene.same("replaced by", Some(new.key.id), before.replaced_by)?;
        scene.status(&old, "expired").await?;
        scene.stock(1, [8, 0, 2]).await?;
        // The same capture again finds the new order; another capture is refunded.
        let again = scene.capture(&old, payment, payment, "replayed paid").await?;
        scene.same("order of the repetition", Some(new.key), again.order().map(|order| order.key))?;
        scene.capture(&old, payment, payment + 500, "refund_due expired paid_twice").await?;
        scene.stock(1, [8, 0, 2]).await?;
        scene.refund(&new, true, "done paid").await?;
        scene.stock(1, [10, 0, 0]).await?;
    }
    Ok(())
}

async fn a_late_capture_without_units_is_refunded(scene: &mut Scene) -> Check {
    let old = bring(scene, Strategy::PreDeduct, At::Expired, LateCapture::Retake).await?;
    let payment = scene.order(old.key.id, 1).await?.payments[0].id.value();
    let others = scene.ask(2).units(9);
    scene.place_ask(others).await?;
    scene.capture(&old, payment, payment, "refund_due expired no_units").await?;
    scene.stock(1, [1, 9, 0]).await?;
    // The same where a limit does not allow a new order.
    let old = bring(scene, Strategy::PreDeduct, At::Expired, LateCapture::Retake).await?;
    let payment = scene.order(old.key.id, 1).await?.payments[0].id.value();
    use crate::domain::{Per, Subject};
    scene.amend(make::limits(1, &[make::rule(Subject::User, Per::Offer, 2)])).await?;
    scene.place(1).await?;
    scene.capture(&old, payment, payment, "refund_due expired no_units").await?;
    scene.stock(1, [9, 1, 0]).await
}

/// The callback arrives before the order or its payment is stored.
async fn an_early_capture_is_applied_when_its_payment_opens(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        scene.open(vec![offer(1, strategy, 9)]).await?;
        let order = scene.place(1).await?;
        let payment = scene.fresh();
        let capture = capture_of(&order, payment, payment);
        scene.capture_as(&order, capture.clone(), "not_found").await?;
        for _ in 0..2 {
            scene.note("keep the capture");
            scene.same("keep_unmatched", Kept::Kept, keep(scene, capture.clone()).await?)?;
        }
        scene.stock(1, if strategy == Strategy::PayTime { [9, 0, 0] } else { [8, 1, 0] }).await?;
        scene.open_payment(&order, payment, "done paid").await?;
        scene.stock(1, [8, 0, 1]).await?;
        let receipts = scene.order(order.key.id, 1).await?.receipts.len();
        scene.same("number of receipts", 1, receipts)?;
        scene.capture_as(&order, capture, "replayed paid").await?;
    }
    Ok(())
}

async fn kept_captures_that_do_not_pay_are_refunded(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    let right = capture_of(&order, 5, 5);
    for capture in
        [Capture { amount: 1, ..capture_of(&order, 5, 6) }, right.clone(), capture_of(&order, 5, 7)]
    {
        scene.note("keep a capture");
        keep(scene, capture).await?;
    }
    scene.open_payment(&order, 5, "done paid").await?;
    let order = scene.order(order.key.id, 1).await?;
    let mut reasons: Vec<_> = order.refund_reasons().map(name::of_reason).collect();
    reasons.sort_unstable();
    scene.same("reasons", vec!["paid_twice", "wrong_amount"], reasons)
}

async fn a_capture_of_a_known_payment_is_not_kept(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, 5, "done paying").await?;
    scene.note("keep a capture of a known payment");
    let kept = keep(scene, capture_of(&order, 5, 5)).await?;
    scene.same("keep_unmatched", Kept::Known(order.key), kept)?;
    scene.status(&order, "paying").await
}

/// Keeps a capture in the lane of buyer 1.
async fn keep(scene: &Scene, capture: Capture) -> Result<Kept, super::Failure> {
    scene.ok("keep_unmatched", scene.ledger().keep_unmatched(scene.lane(1), capture).await)
}

async fn a_capture_in_an_unknown_activity_is_not_kept(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(1).await?;
    scene.note("keep a capture in an unknown activity");
    let lane = Lane::first(make::activity(99));
    let kept = scene.ledger().keep_unmatched(lane, capture_of(&order, 5, 5)).await;
    scene.same("keep_unmatched", "error: not open", name::of_result(&kept))
}

/// Mistake: an order of amount 0 waits for a payment that no provider accepts.
async fn a_free_order_is_paid_when_it_is_placed(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        let hold = (strategy != Strategy::OrderTime).then_some(make::HOLD);
        let price = Money::new(0, make::offer(1, strategy, 1).price().currency()).expect("valid price");
        let free = OfferTerms::new(make::sku(1), price, 2, strategy, hold).expect("valid offer");
        scene.open(vec![free]).await?;
        let order = scene.place(1).await?;
        scene.same("status", "paid", name::of_status(order.status))?;
        scene.same("deadline", None, order.deadline)?;
        scene.stock(1, [1, 0, 1]).await?;
        scene.open_payment(&order, 1, "wrong_state paid").await?;
        scene.cancel(&order, "wrong_state paid").await?;
        let two = scene.ask(2).units(2);
        scene.reserve(two, "sold_out 1").await?;
        scene.place(2).await?;
        let more = scene.ask(3);
        scene.reserve(more, "sold_out 0").await?;
        // A refund moves no money, but can return the units once.
        scene.refund(&order, true, "done paid").await?;
        scene.refund(&order, true, "replayed paid").await?;
        scene.stock(1, [1, 0, 1]).await?;
        let lane = scene.lane(1);
        let due = scene.ok("refunds_due", scene.ledger().refunds_due(lane, None, 9).await)?;
        scene.same("refunds due", 0, due.len())?;
    }
    Ok(())
}

async fn pay_time_orders_are_bounded_by_the_overbook_percentage(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PayTime, 5)]).await?;
    // 150 % of 5 is 7.5, rounded down to 7.
    let (four, three, four_more) = (scene.ask(1).units(4), scene.ask(2).units(3), scene.ask(3).units(4));
    let paying = scene.place_ask(four).await?;
    scene.reserve(four_more, "sold_out 3").await?;
    scene.place_ask(three).await?;
    let one = scene.ask(3);
    scene.reserve(one, "sold_out 0").await?;
    scene.stock(1, [5, 0, 0]).await?;
    // Paying orders do not count: the bound is 150 % of the 1 available unit, and 3 are pending.
    scene.open_payment(&paying, 1, "done paying").await?;
    scene.stock(1, [1, 4, 0]).await?;
    scene.reserve(one, "sold_out 0").await?;
    scene.adjust("more", 2, "done").await?;
    scene.reserve(one.units(2), "sold_out 1").await?;
    scene.place_ask(one).await?;
    let full = offer(1, Strategy::PayTime, 5).with_overbook(100.try_into().expect("valid percentage"));
    scene.open(vec![full]).await?;
    let five = scene.ask(1).units(5);
    scene.place_ask(five).await?;
    let more = scene.ask(2);
    scene.reserve(more, "sold_out 0").await.map(drop)
}

async fn pay_time_takes_units_when_the_payment_opens(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PayTime, 2)]).await?;
    let two = scene.ask(1).units(2);
    let (first, second) = (scene.place_ask(two).await?, scene.place(2).await?);
    scene.open_payment(&first, 1, "done paying").await?;
    scene.stock(1, [0, 2, 0]).await?;
    scene.open_payment(&second, 2, "sold_out 0").await?;
    scene.status(&second, "pending").await?;
    scene.capture(&first, 1, 1, "done paid").await?;
    scene.stock(1, [0, 0, 2]).await?;
    scene.open_payment(&second, 2, "sold_out 0").await?;
    scene.adjust("add one", 1, "done").await?;
    scene.open_payment(&second, 2, "done paying").await?;
    // A capture is refunded if the order's units are gone.
    scene.fail_payment(&second, 2, "done pending").await?;
    scene.adjust("remove one", -1, "done").await?;
    scene.capture(&second, 2, 2, "refund_due pending no_units").await?;
    scene.status(&second, "pending").await?;
    scene.stock(1, [0, 0, 2]).await
}

async fn a_failed_payment_releases_pay_time_units(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PayTime, 1)]).await?;
    let first = scene.place(1).await?;
    for payment in [1, 2] {
        scene.open_payment(&first, payment, "done paying").await?;
        scene.stock(1, [0, 1, 0]).await?;
        if payment == 1 {
            scene.fail_payment(&first, payment, "done pending").await?;
        } else {
            scene.close_payment(&first, payment, "done pending").await?;
        }
        scene.stock(1, [1, 0, 0]).await?;
    }
    scene.cancel(&first, "done cancelled").await?;
    scene.stock(1, [1, 0, 0]).await?;
    let other = scene.place(2).await?;
    scene.pay(&other).await
}

async fn settled(
    scene: &mut Scene,
    order: &Order,
    payment: u64,
    n: u64,
    outcome: RefundOutcome,
    expected: &str,
) -> Check {
    let step = Advance::RefundSettled {
        order: order.key,
        payment: make::payment_id(payment),
        provider: provider("sandbox"),
        transaction: format!("txn-{n}"),
        number: 0,
        outcome,
    };
    scene.advance(step, expected).await.map(drop)
}

async fn a_refund_is_settled_once(scene: &mut Scene) -> Check {
    let order = bring(scene, Strategy::PreDeduct, At::Cancelled, LateCapture::Refund).await?;
    let payment = scene.order(order.key.id, 1).await?.payments[0].id.value();
    settled(scene, &order, payment, 8, RefundOutcome::Done, "not_found").await?;
    scene.capture(&order, payment, 8, "refund_due cancelled order_closed").await?;
    settled(scene, &order, payment, 8, RefundOutcome::Failed, "done cancelled").await?;
    settled(scene, &order, payment, 8, RefundOutcome::Failed, "replayed cancelled").await?;
    settled(scene, &order, payment, 8, RefundOutcome::Done, "done cancelled").await?;
    settled(scene, &order, payment, 8, RefundOutcome::Done, "replayed cancelled").await?;
    // A refund that is done stays done.
    settled(scene, &order, payment, 8, RefundOutcome::Failed, "replayed cancelled").await?;
    let order = scene.order(order.key.id, 1).await?;
    let status = order.refund().map(|refund| refund.status);
    scene.same("status of the refund", Some(RefundStatus::Done), status)
}

async fn a_refund_returns_units_only_if_told_to(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        for (returned, stock) in [(true, [10, 0, 0]), (false, [8, 0, 2])] {
            let order = bring(scene, strategy, At::Paid, LateCapture::Refund).await?;
            scene.refund(&order, returned, "done paid").await?;
            scene.stock(1, stock).await?;
            // Units that stayed away can still be returned, once.
            scene.refund(&order, true, if returned { "replayed paid" } else { "done paid" }).await?;
            scene.refund(&order, true, "replayed paid").await?;
            scene.stock(1, [10, 0, 0]).await?;
            let read = scene.order(order.key.id, 1).await?;
            scene.same("units returned", 2, read.units_returned)?;
            scene.same("reasons", vec!["operator"], read.refund_reasons().map(name::of_reason).collect())?;
        }
    }
    Ok(())
}

async fn refunds_due_are_listed_until_settled(scene: &mut Scene) -> Check {
    let order = bring(scene, Strategy::PreDeduct, At::Paid, LateCapture::Refund).await?;
    let lane = scene.lane(1);
    let due = |scene: &Scene| {
        let ledger = scene.ledger();
        async move { ledger.refunds_due(lane, None, 10).await }
    };
    scene.same("number of refunds due", 0, scene.ok("refunds_due", due(scene).await)?.len())?;
    let [first, last] = <[_; 2]>::try_from(scene.order(order.key.id, 1).await?.payments)
        .map_err(|payments| scene.failure("two payments", format!("{payments:?}")))?;
    scene.capture(&order, first.id.value(), 5, "refund_due paid paid_twice").await?;
    let tasks = scene.ok("refunds_due", due(scene).await)?;
    let seen: Vec<_> =
        tasks.iter().map(|task| (task.order, task.capture.transaction.to_string(), task.reason)).collect();
    let expected = vec![(order.key, "txn-5".to_owned(), crate::domain::RefundReason::PaidTwice)];
    scene.same("refunds due", expected, seen)?;
    scene.refund(&order, true, "done paid").await?;
    scene.same("number of refunds due", 2, scene.ok("refunds_due", due(scene).await)?.len())?;
    let of_one = scene.ok("refunds_due", scene.ledger().refunds_due(lane, None, 1).await)?;
    scene.same("refunds due of one order", 2, of_one.len())?;
    let after = scene.ok("refunds_due", scene.ledger().refunds_due(lane, Some(order.key), 1).await)?;
    scene.same("refunds due after that order", 0, after.len())?;
    settled(scene, &order, last.id.value(), last.id.value(), RefundOutcome::Done, "done paid").await?;
    settled(scene, &order, first.id.value(), 5, RefundOutcome::Failed, "done paid").await?;
    scene.same("number of refunds due", 0, scene.ok("refunds_due", due(scene).await)?.len())
}

async fn an_order_can_be_found_by_its_payment(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let order = scene.place(3).await?;
    scene.open_payment(&order, 5, "done paying").await?;
    let here = scene.lane(3);
    let (beside, elsewhere) = (Lane { bucket: 1, ..here }, Lane::first(make::activity(99)));
    let expected = [(here, 5, Some(order.key)), (here, 6, None), (beside, 5, None), (elsewhere, 5, None)];
    for (lane, payment, expected) in expected {
        let reference = PaymentRef { lane, payment: make::payment_id(payment) };
        let found = scene.ok("order_of_payment", scene.ledger().order_of_payment(reference).await)?;
        scene.same("order of the payment", expected, found)?;
    }
    Ok(())
}

/// Brings an order of two units to PAID, and returns it with its payment.
async fn paid(scene: &mut Scene) -> Result<(Order, u64), super::Failure> {
    let order = bring(scene, Strategy::PreDeduct, At::Paid, LateCapture::Refund).await?;
    let payment = last_payment(scene, &order).await?;
    Ok((order, payment))
}

async fn last_payment(scene: &Scene, order: &Order) -> Result<u64, super::Failure> {
    let order = scene.order(order.key.id, 1).await?;
    order.payment().map(|payment| payment.id.value()).ok_or_else(|| scene.failure("a payment", "none".into()))
}

/// Compares the amounts and reasons of the refunds that can be sent now.
async fn due(scene: &Scene, expected: &[(u64, &str)]) -> Check {
    let tasks = scene.ok("refunds_due", scene.ledger().refunds_due(scene.lane(1), None, 10).await)?;
    let seen: Vec<_> = tasks.iter().map(|task| (task.amount, name::of_reason(task.reason))).collect();
    scene.same("refunds due", expected.to_vec(), seen)
}

/// Compares (amount, reason, status) of all refunds of an order.
async fn refunds(scene: &Scene, order: &Order, expected: &[(u64, &str, RefundStatus)]) -> Check {
    let order = scene.order(order.key.id, 1).await?;
    let seen: Vec<_> = order
        .refunds()
        .map(|(_, refund)| (refund.amount, name::of_reason(refund.reason), refund.status))
        .collect();
    scene.same("refunds", expected.to_vec(), seen)
}

/// Mistake: each part is refunded as a wrong amount, so that the buyer can never pay.
async fn parts_add_up_to_the_amount(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        for (last, refunded) in [(2 * PRICE - 40, None), (2 * PRICE + 2, Some((42, "wrong_amount")))] {
            let order = bring(scene, strategy, At::Paying, LateCapture::Refund).await?;
            let payment = last_payment(scene, &order).await?;
            scene.capture_part(&order, payment, 1, 30, "done paying").await?;
            scene.capture_part(&order, payment, 1, 30, "replayed paying").await?;
            scene.capture_part(&order, payment, 2, 10, "done paying").await?;
            scene.stock(1, [8, 2, 0]).await?;
            scene.cancel(&order, "wrong_state paying").await?;
            scene.capture_part(&order, payment, 3, last, "done paid").await?;
            scene.capture_part(&order, payment, 2, 10, "replayed paid").await?;
            scene.capture_part(&order, payment, 4, 10, "refund_due paid wrong_amount").await?;
            scene.stock(1, [8, 0, 2]).await?;
            let extra = [refunded, Some((10, "wrong_amount"))];
            due(scene, &extra.into_iter().flatten().collect::<Vec<_>>()).await?;
        }
    }
    Ok(())
}

/// Mistake: the parts of a payment that ends are kept, and the order is never paid.
async fn parts_whose_rest_never_comes_are_refunded(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        for ended in [PaymentStatus::Failed, PaymentStatus::Closed] {
            let order = bring(scene, strategy, At::Paying, LateCapture::Refund).await?;
            let payment = last_payment(scene, &order).await?;
            scene.capture_part(&order, payment, 1, 30, "done paying").await?;
            match ended {
                PaymentStatus::Failed => scene.fail_payment(&order, payment, "done pending").await?,
                _ => scene.close_payment(&order, payment, "done pending").await?,
            }
            due(scene, &[(30, "incomplete")]).await?;
            // The payment is over, so its rest comes too late.
            scene.capture_part(&order, payment, 2, 2 * PRICE - 30, "refund_due pending wrong_amount").await?;
            let next = scene.fresh();
            scene.open_payment(&order, next, "done paying").await?;
            scene.capture_part(&order, next, 3, 2 * PRICE, "done paid").await?;
            due(scene, &[(30, "incomplete"), (2 * PRICE - 30, "wrong_amount")]).await?;
        }
    }
    // The deadline passes, and the provider does not close the payment in time.
    let order = bring(scene, Strategy::PreDeduct, At::Paying, LateCapture::Refund).await?;
    let payment = last_payment(scene, &order).await?;
    scene.capture_part(&order, payment, 1, 30, "done paying").await?;
    scene.time(100_000).await?;
    scene.expire(1, (1, 0)).await?;
    due(scene, &[(30, "incomplete")]).await
}

async fn a_payment_in_full_refunds_the_parts_of_another(scene: &mut Scene) -> Check {
    let order = bring(scene, Strategy::PreDeduct, At::Paying, LateCapture::Refund).await?;
    let payment = last_payment(scene, &order).await?;
    let first = scene.order(order.key.id, 1).await?.payments[0].id.value();
    scene.capture_part(&order, payment, 1, 30, "done paying").await?;
    // Money for the payment that failed arrives after all.
    scene.capture_part(&order, first, 2, 2 * PRICE, "done paid").await?;
    due(scene, &[(30, "paid_twice")]).await
}

async fn a_part_of_an_order_can_be_refunded(scene: &mut Scene) -> Check {
    let (order, payment) = paid(scene).await?;
    scene.refund_part(&order, 1, Some(2 * PRICE + 1), Some(0), &format!("too_much {} 2", 2 * PRICE)).await?;
    scene.refund_part(&order, 1, Some(1), Some(3), &format!("too_much {} 2", 2 * PRICE)).await?;
    scene.refund_part(&order, 1, Some(70), Some(1), "done paid").await?;
    scene.stock(1, [9, 0, 1]).await?;
    // The answer was lost, and the operator asks again.
    scene.refund_part(&order, 1, Some(70), Some(1), "replayed paid").await?;
    scene.refund_part(&order, 1, Some(71), Some(1), "key_reused").await?;
    scene.refund_part(&order, 2, Some(70), Some(0), "done paid").await?;
    scene.stock(1, [9, 0, 1]).await?;
    due(scene, &[(70, "operator"), (70, "operator")]).await?;
    // Each refund of the transaction is settled by its number.
    for (number, outcome) in [(1, RefundOutcome::Failed), (2, RefundOutcome::Done)] {
        let step = Advance::RefundSettled {
            order: order.key,
            payment: make::payment_id(payment),
            provider: provider("sandbox"),
            transaction: format!("txn-{payment}"),
            number,
            outcome,
        };
        scene.advance(step, if number == 1 { "done paid" } else { "not_found" }).await?;
    }
    due(scene, &[(70, "operator")]).await?;
    scene.refund_part(&order, 3, None, None, "done paid").await?;
    scene.stock(1, [10, 0, 0]).await?;
    due(scene, &[(70, "operator"), (2 * PRICE - 140, "operator")]).await?;
    scene.refund_part(&order, 4, Some(1), Some(0), "too_much 0 0").await?;
    scene.refund_part(&order, 4, None, None, "replayed paid").await?;
    let total = scene.order(order.key.id, 1).await?.refund();
    let seen = total.map(|total| (total.status, total.amount));
    scene.same("all refunds together", Some((RefundStatus::Due, 2 * PRICE)), seen)?;
    // The limit still counts the returned units.
    scene.status(&order, "paid").await
}

/// Mistake: the shop sends money that the provider's dashboard has already sent.
async fn money_sent_back_at_the_provider_is_not_sent_again(scene: &mut Scene) -> Check {
    let (order, payment) = paid(scene).await?;
    scene.reverse(&order, payment, (Refunded, 1, 50), "done paid").await?;
    scene.reverse(&order, payment, (Refunded, 1, 50), "replayed paid").await?;
    scene.stock(1, [8, 0, 2]).await?;
    scene.refund(&order, false, "done paid").await?;
    due(scene, &[(2 * PRICE - 50, "operator")]).await?;
    // Only a part of what we owe goes back at the provider.
    scene.reverse(&order, payment, (Refunded, 2, 30), "done paid").await?;
    due(scene, &[(2 * PRICE - 80, "operator")]).await?;
    use RefundStatus::{Done, Due};
    let expected = [(50, "provider", Done), (2 * PRICE - 80, "operator", Due), (30, "provider", Done)];
    refunds(scene, &order, &expected).await?;
    // The units are the operator's to return, though no money is left to send.
    scene.reverse(&order, payment, (Refunded, 3, 2 * PRICE - 80), "done paid").await?;
    due(scene, &[]).await?;
    scene.refund(&order, true, "done paid").await?;
    scene.stock(1, [10, 0, 0]).await?;
    due(scene, &[]).await
}

/// Mistake: a provider that also reports the refunds that we ordered is counted twice.
async fn a_report_of_our_own_refund_is_no_second_one(scene: &mut Scene) -> Check {
    for settled_first in [true, false] {
        let (order, payment) = paid(scene).await?;
        scene.refund_part(&order, 1, Some(50), Some(0), "done paid").await?;
        if settled_first {
            settled(scene, &order, payment, payment, RefundOutcome::Done, "done paid").await?;
        }
        scene.reverse(&order, payment, (Refunded, 1, 50), "done paid").await?;
        let outcome = RefundOutcome::Done;
        settled(scene, &order, payment, payment, outcome, "replayed paid").await?;
        refunds(scene, &order, &[(50, "operator", RefundStatus::Done)]).await?;
        // The same amount again is another refund.
        scene.reverse(&order, payment, (Refunded, 2, 50), "done paid").await?;
        let expected = [(50, "operator", RefundStatus::Done), (50, "provider", RefundStatus::Done)];
        refunds(scene, &order, &expected).await?;
    }
    Ok(())
}

async fn reversals_that_contradict_are_conflicts(scene: &mut Scene) -> Check {
    let order = bring(scene, Strategy::PreDeduct, At::Paying, LateCapture::Refund).await?;
    let payment = last_payment(scene, &order).await?;
    // The report overtakes the capture: nothing can go back yet.
    scene.reverse(&order, payment, (Refunded, 1, 50), "not_found").await?;
    scene.capture(&order, payment, payment, "done paid").await?;
    scene.reverse(&order, payment, (Refunded, 1, 2 * PRICE + 1), "conflict").await?;
    scene.reverse(&order, payment, (Refunded, 1, 0), "conflict").await?;
    scene.reverse(&order, payment, (Refunded, 1, 50), "done paid").await?;
    scene.reverse(&order, payment, (Refunded, 1, 51), "conflict").await?;
    scene.reverse(&order, payment, (Refunded, 2, 2 * PRICE - 49), "conflict").await?;
    refunds(scene, &order, &[(50, "provider", RefundStatus::Done)]).await?;
    // A report in another currency, and one for a payment of another order.
    let mut foreign = make::reversal_of(&order, payment, Refunded, 3, 1);
    foreign.currency = "USD".parse().expect("valid currency");
    scene.advance(Advance::Reversal { order: order.key, report: foreign }, "conflict").await?;
    scene.reverse(&order, 9, (Refunded, 4, 1), "not_found").await?;
    scene.stock(1, [8, 0, 2]).await
}

async fn no_refund_is_sent_while_a_dispute_is_open(scene: &mut Scene) -> Check {
    let (order, payment) = paid(scene).await?;
    scene.reverse(&order, payment, (Disputed, 1, 2 * PRICE), "done paid").await?;
    scene.reverse(&order, payment, (Disputed, 1, 2 * PRICE), "replayed paid").await?;
    scene.refund_part(&order, 1, Some(70), Some(0), "done paid").await?;
    due(scene, &[]).await?;
    scene.same("dispute", Some(Dispute::Open), scene.order(order.key.id, 1).await?.dispute())?;
    scene.reverse(&order, payment, (DisputeWon, 1, 2 * PRICE), "done paid").await?;
    due(scene, &[(70, "operator")]).await?;
    scene.reverse(&order, payment, (DisputeWon, 1, 2 * PRICE), "replayed paid").await?;
    scene.reverse(&order, payment, (DisputeLost, 1, 2 * PRICE), "conflict").await?;
    scene.same("dispute", Some(Dispute::Won), scene.order(order.key.id, 1).await?.dispute())?;
    // The end of another dispute overtakes its beginning.
    scene.reverse(&order, payment, (DisputeWon, 2, 10), "done paid").await?;
    scene.reverse(&order, payment, (Disputed, 2, 10), "done paid").await?;
    due(scene, &[(70, "operator")]).await
}

async fn a_lost_dispute_takes_the_money_back(scene: &mut Scene) -> Check {
    let (order, payment) = paid(scene).await?;
    scene.refund_part(&order, 1, Some(70), Some(0), "done paid").await?;
    scene.reverse(&order, payment, (Disputed, 1, 2 * PRICE), "done paid").await?;
    scene.reverse(&order, payment, (DisputeLost, 1, 2 * PRICE), "done paid").await?;
    scene.reverse(&order, payment, (DisputeLost, 1, 2 * PRICE), "replayed paid").await?;
    due(scene, &[]).await?;
    refunds(scene, &order, &[(2 * PRICE, "dispute", RefundStatus::Done)]).await?;
    scene.same("dispute", Some(Dispute::Lost), scene.order(order.key.id, 1).await?.dispute())?;
    scene.status(&order, "paid").await?;
    // The units are gone unless an operator says otherwise.
    scene.stock(1, [8, 0, 2]).await
}

/// Mistake: of two refunds of the same amount the wrong one is taken as done, and never sent.
async fn a_report_settles_the_refund_that_it_is_about(scene: &mut Scene) -> Check {
    let order = bring(scene, Strategy::PreDeduct, At::Paying, LateCapture::Refund).await?;
    let payment = last_payment(scene, &order).await?;
    scene.capture_part(&order, payment, 1, 30, "done paying").await?;
    scene.capture_part(&order, payment, 2, 30, "done paying").await?;
    scene.fail_payment(&order, payment, "done pending").await?;
    due(scene, &[(30, "incomplete"), (30, "incomplete")]).await?;
    // Under an id of its own it could be either; it is clear once one is settled.
    scene.reverse(&order, payment, (Refunded, 9, 30), "not_found").await?;
    settled(scene, &order, payment, 2, RefundOutcome::Done, "done pending").await?;
    scene.reverse(&order, payment, (Refunded, 9, 30), "done pending").await?;
    due(scene, &[(30, "incomplete")]).await?;
    // Under the id of the capture it is clear at once.
    scene.reverse(&order, payment, (Refunded, 1, 30), "done pending").await?;
    due(scene, &[]).await
}

/// Mistake: the money that pays for the order is taken as gone, while a surplus is sent once more.
async fn what_goes_back_at_the_provider_reduces_what_is_owed(scene: &mut Scene) -> Check {
    for kind in [Refunded, DisputeLost] {
        let (order, payment) = paid(scene).await?;
        scene.capture(&order, payment, 5, "refund_due paid paid_twice").await?;
        scene.reverse(&order, payment, (kind, 9, 2 * PRICE - 10), "done paid").await?;
        due(scene, &[(10, "paid_twice")]).await?;
        let read = scene.order(order.key.id, 1).await?;
        scene.same("kept of the order's own money", 2 * PRICE, read.receipts[0].kept())?;
        // The same with an operator's refund of a part.
        let (order, payment) = paid(scene).await?;
        scene.refund_part(&order, 1, Some(70), Some(0), "done paid").await?;
        scene.reverse(&order, payment, (kind, 9, 69), "done paid").await?;
        due(scene, &[(1, "operator")]).await?;
    }
    Ok(())
}

async fn money_of_a_replaced_order_goes_back_from_its_own_receipt(scene: &mut Scene) -> Check {
    let old = bring(scene, Strategy::PreDeduct, At::Expired, LateCapture::Retake).await?;
    let payment = scene.order(old.key.id, 1).await?.payments[0].id.value();
    let retaken = scene.capture(&old, payment, payment, "retaken paid").await?;
    let new = retaken.order().cloned().ok_or_else(|| scene.failure("a new order", "none".into()))?;
    scene.capture(&old, payment, 5, "refund_due expired paid_twice").await?;
    settled(scene, &old, payment, 5, RefundOutcome::Done, "done expired").await?;
    // The provider reports that refund: it is the old order's, and the new one stays paid.
    scene.reverse(&old, payment, (Refunded, 9, 2 * PRICE), "done expired").await?;
    refunds(scene, &new, &[]).await?;
    refunds(scene, &old, &[(2 * PRICE, "paid_twice", RefundStatus::Done)]).await?;
    // A dispute of the payment holds the refunds of both, and its end releases both.
    scene.reverse(&old, payment, (Disputed, 8, 2 * PRICE), "done paid").await?;
    scene.refund(&new, true, "done paid").await?;
    due(scene, &[]).await?;
    scene.reverse(&old, payment, (DisputeWon, 8, 2 * PRICE), "done paid").await?;
    due(scene, &[(2 * PRICE, "operator")]).await?;
    scene.same("dispute", Some(Dispute::Won), scene.order(old.key.id, 1).await?.dispute())
}
