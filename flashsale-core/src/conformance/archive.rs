//! Archiving: an activity that leaves memory answers as before, and comes back for whoever changes it.
//! A ledger that keeps every activity in one place passes as it is.

use super::{
    case::cases,
    durability::crash,
    make::{self, offer},
    scene::{Check, Scene},
};
use crate::{
    domain::{Order, OrderKey, Selling, Strategy},
    ledger::{Change, Consumer, Event, Kept, Lane, LedgerCalls as _, LedgerError, PaymentRef},
};

cases! {
    Deciding:
        an_archived_activity_answers_as_before,
        an_activity_with_something_open_is_not_archived,
        a_change_of_an_archived_activity_survives_a_crash,
        consumers_come_and_go_while_an_activity_is_archived;
}

/// Acknowledges everything for a consumer.
async fn read_all(scene: &mut Scene, consumer: &Consumer) -> Check {
    for lane in scene.lanes() {
        let entries = scene.ok("events", scene.ledger().events(consumer, lane, None, 1_000).await)?;
        if let Some(last) = entries.last() {
            scene.ok("ack", scene.ledger().ack(consumer, lane, last.position).await)?;
        }
    }
    Ok(())
}

/// Returns whether the ledger moved the activity out of memory.
async fn archive(scene: &mut Scene) -> Result<bool, super::Failure> {
    scene.note("archive");
    let archived = scene.ok("archive", scene.ledger().archive(scene.activity()).await)?;
    let listed = scene.ok("activities", scene.ledger().activities().await)?.contains(&scene.activity());
    scene.same("whether it is among the activities", !archived, listed)?;
    scene.check().await?;
    Ok(archived)
}

/// Sells two orders, of which buyer 1 pays one and buyer 2 cancels the other, and ends the sale.
async fn ended(scene: &mut Scene) -> Result<[Order; 2], super::Failure> {
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let (paid, cancelled) = (scene.place(1).await?, scene.place(2).await?);
    scene.open_payment(&paid, 71, "done paying").await?;
    scene.capture(&paid, 71, 71, "done paid").await?;
    scene.cancel(&cancelled, "done cancelled").await?;
    scene.amend(Change::Selling(Selling::Ended)).await?;
    Ok([paid, cancelled])
}

/// What readers see of the activity.
async fn seen(scene: &Scene, orders: &[Order]) -> Result<String, super::Failure> {
    let ledger = scene.ledger();
    let mut seen = String::new();
    for order in orders {
        let OrderKey { user, id, .. } = order.key;
        let found = scene.ok("order", ledger.order(order.key).await)?;
        let stranger = OrderKey { user: make::user(9), ..order.key };
        scene.same("the order of another user", None, scene.ok("order", ledger.order(stranger).await)?)?;
        let all = scene.ok("orders_of", ledger.orders_of(user, None, 99).await)?;
        let none = scene.ok("orders_of", ledger.orders_of(user, Some(id), 99).await)?;
        seen += &format!("{found:?} {all:?} {none:?}\n");
    }
    let mut located = Vec::new();
    for activity in [None, Some(scene.activity()), Some(make::activity(99))] {
        for id in orders.iter().map(|order| order.key.id).chain([make::order_id(987_654)]) {
            located.push(scene.ok("locate", ledger.locate(activity, id).await)?);
        }
    }
    let mut by_payment = Vec::new();
    for lane in [scene.lane(1), Lane { bucket: 9, ..scene.lane(1) }, Lane::first(make::activity(99))] {
        for payment in [71, 987_654].map(make::payment_id) {
            let found = ledger.order_of_payment(PaymentRef { lane, payment }).await;
            by_payment.push(scene.ok("order_of_payment", found)?);
        }
    }
    let stock = scene.ok("stock", ledger.stock(scene.activity(), make::sku(1)).await)?;
    let terms = scene.ok("terms", ledger.terms(scene.activity()).await)?;
    Ok(seen + &format!("{located:?} {by_payment:?} {stock:?} {terms:?}"))
}

async fn an_archived_activity_answers_as_before(scene: &mut Scene) -> Check {
    let orders = ended(scene).await?;
    let before = seen(scene, &orders).await?;
    let archived = archive(scene).await?;
    scene.same("what readers see", before.clone(), seen(scene, &orders).await?)?;
    let observed = archive(scene).await?;
    scene.same("a repeated call", archived, observed)?;
    crash(scene).await?;
    scene.same("what readers see after a crash", before, seen(scene, &orders).await?)?;
    archive(scene).await?;
    let early = make::capture_of(&orders[0], 71, 72);
    let kept = scene.ok("keep_unmatched", scene.ledger().keep_unmatched(scene.lane(1), early).await)?;
    scene.same("a capture of a known payment", Kept::Known(orders[0].key), kept)?;
    // A retry of a winning request gets its order, and a new one is declined.
    let ask = scene.ask(3);
    scene.reserve(ask, "ended").await?;
    archive(scene).await?;
    let terms = scene.ok("terms", scene.ledger().terms(scene.activity()).await)?;
    scene.holds("the terms are known", terms.is_some(), "none")
}

async fn an_activity_with_something_open_is_not_archived(scene: &mut Scene) -> Check {
    let mail = Consumer::new("mail");
    scene.ok("register", scene.ledger().register(&mail).await)?;
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    read_all(scene, &mail).await?;
    let observed = archive(scene).await?;
    scene.same("while it sells", false, observed)?;
    let order = scene.place(1).await?;
    scene.amend(Change::Selling(Selling::Ended)).await?;
    read_all(scene, &mail).await?;
    let observed = archive(scene).await?;
    scene.same("with an open hold", false, observed)?;
    scene.cancel(&order, "done cancelled").await?;
    let observed = archive(scene).await?;
    scene.same("with an unread event", false, observed)?;
    read_all(scene, &mail).await?;
    archive(scene).await?;
    let early = make::capture_of(&order, 71, 71);
    let kept = scene.ok("keep_unmatched", scene.ledger().keep_unmatched(scene.lane(1), early).await)?;
    scene.same("a capture of an unknown payment", Kept::Kept, kept)?;
    let observed = archive(scene).await?;
    scene.same("with a kept capture", false, observed)?;
    scene.stock(1, [5, 0, 0]).await
}

async fn a_change_of_an_archived_activity_survives_a_crash(scene: &mut Scene) -> Check {
    let [paid, cancelled] = ended(scene).await?;
    archive(scene).await?;
    scene.capture(&paid, 71, 72, "refund_due paid paid_twice").await?;
    let observed = archive(scene).await?;
    scene.same("with a refund due", false, observed)?;
    crash(scene).await?;
    let due = scene.ok("refunds_due", scene.ledger().refunds_due(scene.lane(1), None, 9).await)?;
    scene.same("refunds due", vec![paid.key], due.iter().map(|task| task.order).collect())?;
    scene.cancel(&cancelled, "replayed cancelled").await?;
    scene.stock(1, [4, 0, 1]).await
}

async fn consumers_come_and_go_while_an_activity_is_archived(scene: &mut Scene) -> Check {
    let (old, new) = (Consumer::new("old"), Consumer::new("new"));
    scene.ok("register", scene.ledger().register(&old).await)?;
    let [paid, _] = ended(scene).await?;
    read_all(scene, &old).await?;
    archive(scene).await?;
    scene.ok("retire", scene.ledger().retire(&old).await)?;
    scene.ok("register", scene.ledger().register(&new).await)?;
    scene.capture(&paid, 71, 72, "refund_due paid paid_twice").await?;
    let lane = scene.lane(1);
    let entries = scene.ok("events", scene.ledger().events(&new, lane, None, 9).await)?;
    let last = entries.last().map(|entry| &entry.event);
    let captured = |event: &&Event| matches!(event, Event::Order { id, .. } if *id == paid.key.id);
    scene.holds("the event since it was registered", last.is_some_and(|event| captured(&event)), last)?;
    let retired = scene.ledger().events(&old, lane, None, 9).await;
    scene.holds("a retired consumer is unknown", matches!(retired, Err(LedgerError::Invalid(_))), retired)
}
