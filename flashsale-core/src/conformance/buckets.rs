//! Buckets: one activity in several lanes, and transfers of units between them.

use super::{
    case::cases,
    failure::Failure,
    make::{self, offer},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{Per, Selling, SkuId, Strategy, Subject},
    ledger::{Change, Lane, LedgerCalls as _, PaymentRef, Transfer},
};

cases! {
    Buckets:
        the_stock_is_divided_among_the_buckets,
        a_sold_out_bucket_borrows_units_from_others,
        a_transfer_is_received_once,
        transfers_are_received_in_order,
        a_transfer_is_listed_until_forgotten,
        only_available_units_are_sent,
        an_invalid_transfer_is_rejected,
        a_request_in_the_wrong_lane_is_rejected,
        an_adjustment_applies_to_the_first_bucket,
        orders_in_every_bucket_can_be_found,
        a_change_of_terms_reaches_every_bucket;
}

pub(super) async fn send(
    scene: &mut Scene,
    from: u16,
    to: u16,
    units: u32,
) -> Result<Option<Transfer>, Failure> {
    let lane = lane(scene, from);
    scene.note(format!("send {units} from bucket {from} to {to}"));
    let sent = scene.ok("send", scene.ledger().send(lane, to, make::sku(1), units).await)?;
    scene.check().await?;
    Ok(sent)
}

pub(super) async fn receive(scene: &mut Scene, transfer: Transfer, expected: bool) -> Check {
    scene.note(format!("receive {transfer:?}"));
    let received = scene.ok("receive", scene.ledger().receive(transfer).await)?;
    scene.check().await?;
    scene.same("receive", expected, received)
}

pub(super) async fn forget(scene: &mut Scene, transfer: Transfer) -> Check {
    scene.note(format!("forget {transfer:?}"));
    scene.ok("forget", scene.ledger().forget(transfer).await)?;
    scene.check().await
}

fn lane(scene: &Scene, bucket: u16) -> Lane {
    Lane { bucket, ..Lane::first(scene.terms.as_ref().expect("an activity is open").activity()) }
}

/// Returns the available units of each bucket.
async fn shares(scene: &Scene, sku: SkuId) -> Result<Vec<i64>, Failure> {
    let activity = scene.terms.as_ref().expect("an activity is open").activity();
    let inspection = scene.inspect(activity).await?;
    let index = inspection.terms.index(sku).expect("the SKU is offered");
    Ok(inspection.lanes.iter().map(|lane| lane.offers[index].available).collect())
}

async fn the_stock_is_divided_among_the_buckets(scene: &mut Scene) -> Check {
    let offers = vec![offer(1, Strategy::OrderTime, 10), offer(2, Strategy::PreDeduct, 3)];
    scene.open_over(4, offers).await?;
    scene.same("available in each bucket", vec![3, 3, 2, 2], shares(scene, make::sku(1)).await?)?;
    scene.same("available in each bucket", vec![1, 1, 1, 0], shares(scene, make::sku(2)).await?)?;
    scene.stock(1, [10, 0, 0]).await?;
    let empty = scene.buyer_of(3, 1);
    let ask = scene.ask(empty).of(2);
    scene.reserve(ask, "sold_out 0").await.map(drop)
}

/// Mistake: buckets that do not borrow say "sold out" while others have units.
async fn a_sold_out_bucket_borrows_units_from_others(scene: &mut Scene) -> Check {
    scene.open_over(4, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    let buyer = scene.buyer_of(2, 1);
    let ask = scene.ask(buyer).units(8);
    scene.reserve(ask, "sold_out 2").await?;
    for from in [0, 1, 3] {
        let transfer = send(scene, from, 2, 100).await?;
        let transfer = transfer.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
        scene.same("units sent", 2, transfer.units)?;
        receive(scene, transfer, true).await?;
        forget(scene, transfer).await?;
    }
    let order = scene.place_ask(ask).await?;
    scene.stock(1, [0, 8, 0]).await?;
    scene.cancel(&order, "done cancelled").await?;
    scene.same("available in each bucket", vec![0, 0, 8, 0], shares(scene, make::sku(1)).await?)
}

/// A transfer is resent after a lost reply.
async fn a_transfer_is_received_once(scene: &mut Scene) -> Check {
    scene.open_over(2, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    let transfer = send(scene, 0, 1, 3).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    scene.same("available in each bucket", vec![1, 4], shares(scene, make::sku(1)).await?)?;
    let activity = scene.lane(1).activity;
    let stock = scene.ok("stock", scene.ledger().stock(activity, make::sku(1)).await)?;
    scene.same("units in transit", Some(3), stock.map(|stock| stock.transit))?;
    for _ in 0..3 {
        receive(scene, transfer, true).await?;
        scene.same("available in each bucket", vec![1, 7], shares(scene, make::sku(1)).await?)?;
    }
    forget(scene, transfer).await?;
    receive(scene, transfer, true).await?;
    scene.same("available in each bucket", vec![1, 7], shares(scene, make::sku(1)).await?)
}

async fn transfers_are_received_in_order(scene: &mut Scene) -> Check {
    scene.open_over(3, vec![offer(1, Strategy::OrderTime, 30)]).await?;
    let mut sent = Vec::new();
    for units in [1, 2, 3] {
        sent.extend(send(scene, 0, 1, units).await?);
    }
    let other = send(scene, 2, 1, 4).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    receive(scene, sent[1], false).await?;
    receive(scene, sent[2], false).await?;
    receive(scene, other, true).await?;
    receive(scene, sent[0], true).await?;
    receive(scene, sent[2], false).await?;
    receive(scene, sent[1], true).await?;
    receive(scene, sent[0], true).await?;
    receive(scene, sent[2], true).await?;
    scene.same("available in each bucket", vec![4, 20, 6], shares(scene, make::sku(1)).await?)
}

async fn a_transfer_is_listed_until_forgotten(scene: &mut Scene) -> Check {
    scene.open_over(2, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    let first = send(scene, 0, 1, 1).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    let second = send(scene, 0, 1, 2).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    let lane = lane(scene, 0);
    let kept = scene.ok("transfers", scene.ledger().transfers(lane).await)?;
    scene.same("transfers", vec![first, second], kept)?;
    receive(scene, first, true).await?;
    let kept = scene.ok("transfers", scene.ledger().transfers(lane).await)?;
    scene.same("transfers", vec![first, second], kept)?;
    for _ in 0..2 {
        forget(scene, first).await?;
        let kept = scene.ok("transfers", scene.ledger().transfers(lane).await)?;
        scene.same("transfers", vec![second], kept)?;
    }
    receive(scene, second, true).await?;
    forget(scene, second).await?;
    let kept = scene.ok("transfers", scene.ledger().transfers(lane).await)?;
    scene.same("transfers", vec![], kept)
}

async fn only_available_units_are_sent(scene: &mut Scene) -> Check {
    scene.open_over(2, vec![offer(1, Strategy::PreDeduct, 6)]).await?;
    let buyer = scene.buyer_of(0, 1);
    let ask = scene.ask(buyer).units(2);
    scene.place_ask(ask).await?;
    let sent = send(scene, 0, 1, 5).await?;
    scene.same("units sent", Some(1), sent.map(|transfer| transfer.units))?;
    for units in [1, 0] {
        let sent = send(scene, 0, 1, units).await?;
        scene.same("send", None, sent)?;
    }
    scene.note("send units of an unknown SKU");
    let sent = scene.ledger().send(lane(scene, 1), 0, make::sku(99), 1).await;
    scene.same("send", None, scene.ok("send", sent)?)
}

async fn an_invalid_transfer_is_rejected(scene: &mut Scene) -> Check {
    scene.open_over(2, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    for to in [0, 2, 999] {
        scene.note(format!("send from bucket 0 to {to}"));
        let sent = scene.ledger().send(lane(scene, 0), to, make::sku(1), 1).await;
        scene.same("send", "error: invalid", name::of_result(&sent))?;
    }
    let transfer = send(scene, 0, 1, 1).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    let invalid = [
        Transfer { sku: make::sku(99), ..transfer },
        Transfer { from: 1, ..transfer },
        Transfer { from: 7, ..transfer },
    ];
    for invalid in invalid {
        scene.note(format!("receive {invalid:?}"));
        let received = scene.ledger().receive(invalid).await;
        scene.same("receive", "error: invalid", name::of_result(&received))?;
        scene.check().await?;
    }
    let unknown = Transfer { activity: make::activity(999), ..transfer };
    let received = scene.ledger().receive(unknown).await;
    scene.same("receive", "error: not open", name::of_result(&received))?;
    receive(scene, transfer, true).await
}

async fn a_request_in_the_wrong_lane_is_rejected(scene: &mut Scene) -> Check {
    scene.open_over(4, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    let stranger = scene.buyer_of(1, 1);
    let ask = scene.ask(stranger);
    scene.note(format!("reserve in bucket 0: {ask:?}"));
    let result = scene.ledger().reserve(lane(scene, 0), None, vec![ask.0]).await;
    scene.same("reserve", "error: invalid", name::of_result(&result))?;
    let nowhere = lane(scene, 4);
    let result = scene.ledger().expire_due(nowhere, 1).await;
    scene.same("expire_due", "error: not open", name::of_result(&result))?;
    scene.check().await?;
    scene.stock(1, [8, 0, 0]).await
}

async fn an_adjustment_applies_to_the_first_bucket(scene: &mut Scene) -> Check {
    scene.open_over(4, vec![offer(1, Strategy::OrderTime, 8)]).await?;
    scene.adjust("remove three", -3, "insufficient 2").await?;
    let transfer = send(scene, 3, 0, 1).await?.ok_or_else(|| scene.failure("a transfer", "none".into()))?;
    scene.adjust("remove three", -3, "insufficient 2").await?;
    receive(scene, transfer, true).await?;
    scene.adjust("remove three", -3, "done").await?;
    scene.same("available in each bucket", vec![0, 2, 2, 1], shares(scene, make::sku(1)).await?)?;
    scene.adjust("add one", 1, "done").await?;
    scene.same("available in each bucket", vec![1, 2, 2, 1], shares(scene, make::sku(1)).await?)
}

async fn orders_in_every_bucket_can_be_found(scene: &mut Scene) -> Check {
    scene.open_over(4, vec![offer(1, Strategy::PreDeduct, 8)]).await?;
    for bucket in 0..4 {
        let buyer = scene.buyer_of(bucket, 2);
        let order = scene.place(buyer).await?;
        scene.status(&order, "pending").await?;
        scene.open_payment(&order, order.key.id.value(), "done paying").await?;
        let located = scene.ok("locate", scene.ledger().locate(None, order.key.id).await)?;
        scene.same("locate", Some(order.key), located)?;
        // A reference finds a payment only in the lane that it names, which may be none.
        for named in 0..=4 {
            let reference =
                PaymentRef { lane: lane(scene, named), payment: make::payment_id(order.key.id.value()) };
            let found = scene.ok("order_of_payment", scene.ledger().order_of_payment(reference).await)?;
            scene.same("order of the payment", (named == bucket).then_some(order.key), found)?;
        }
        let orders = scene.ok("orders_of", scene.ledger().orders_of(make::user(buyer), None, 9).await)?;
        scene.same("orders", vec![order.key], orders.iter().map(|order| order.key).collect())?;
    }
    Ok(())
}

async fn a_change_of_terms_reaches_every_bucket(scene: &mut Scene) -> Check {
    scene.open_over(3, vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let window = make::window(scene.moment(5), scene.moment(50));
    scene.amend(Change::Window(window)).await?;
    scene.amend(make::limits(1, &[make::rule(Subject::User, Per::Offer, 2)])).await?;
    scene.amend(Change::Selling(Selling::Paused)).await?;
    let changed = scene.ok("terms", scene.ledger().terms(lane(scene, 0).activity).await)?;
    scene.same("window", Some(window), changed.as_ref().map(|terms| terms.window()))?;
    for bucket in 0..3 {
        let view = scene.ok("view", scene.ledger().view(lane(scene, bucket)).await)?;
        scene.same("terms in the view", changed.clone(), Some(view.terms))?;
        scene.same("selling in the view", Selling::Paused, view.selling)?;
    }
    Ok(())
}
