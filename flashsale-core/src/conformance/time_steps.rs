//! Steps of the deciding clock: holds last as long as they were granted.

use super::{
    case::cases,
    durability::crash,
    make::{self, offer},
    scene::{Check, Scene},
};
use crate::{
    domain::{Order, Strategy},
    ledger::{Consumer, Event, LedgerCalls as _, StepId, TimeStep},
};

cases! {
    Deciding:
        a_step_moves_the_deadlines_of_holds,
        a_step_moves_the_deadlines_of_open_payments,
        a_step_moves_the_retries_of_closing,
        a_step_back_reopens_the_window,
        a_step_leaves_windows_and_ended_orders,
        a_step_is_taken_once,
        a_step_reaches_every_activity,
        a_step_is_an_event_of_the_lane,
        a_step_survives_a_crash;
    Buckets:
        a_step_reaches_every_lane;
}

/// Ten minutes.
const STEP: i64 = 600_000;
/// When the cases begin, in seconds after the start of the sale: later than any step back.
const BEGIN: u64 = 1_200;

impl Scene {
    /// Steps the time of all lanes, under a new id.
    async fn step(&mut self, by_ms: i64) -> Result<TimeStep, super::Failure> {
        let step = TimeStep::new(StepId(self.fresh()), by_ms, make::by()).expect("a valid step");
        self.note(format!("step the time by {by_ms} ms"));
        self.repeat(&step).await?;
        self.stepped(by_ms);
        self.check().await?;
        Ok(step)
    }

    async fn repeat(&mut self, step: &TimeStep) -> Check {
        self.ok("step_time", self.ledger().step_time(step.clone()).await)
    }
}

/// Opens a sale and lets it begin.
async fn begin(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    scene.time(BEGIN).await
}

async fn a_step_moves_the_deadlines_of_holds(scene: &mut Scene) -> Check {
    for by_ms in [STEP, -STEP, 120_000, -8_000] {
        begin(scene).await?;
        let order = scene.place(1).await?;
        scene.time(BEGIN + 40).await?;
        scene.step(by_ms).await?;
        let moved = scene.order(order.key.id, 1).await?;
        scene.same("deadline", Some(scene.moment(BEGIN + 100).moved(by_ms)), moved.deadline)?;
        scene.same("time of placing", order.placed_at, moved.placed_at)?;
        // An order placed now lasts as long as any.
        let now = scene.now();
        let next = scene.place(2).await?;
        scene.same("deadline of the next", Some(now.after(make::HOLD)), next.deadline)?;
        scene.time_at(now.after(make::seconds(59))).await?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", moved.deadline, due.next)?;
        scene.time_at(now.after(make::seconds(60))).await?;
        scene.expire(1, (1, 0)).await?;
        scene.status(&order, "expired").await?;
        scene.stock(1, [8, 1, 0]).await?;
    }
    Ok(())
}

async fn a_step_moves_the_deadlines_of_open_payments(scene: &mut Scene) -> Check {
    for by_ms in [STEP, -STEP] {
        begin(scene).await?;
        let order = scene.place(1).await?;
        scene.time(BEGIN + 70).await?;
        scene.open_payment(&order, order.key.id.value(), "done paying").await?;
        scene.step(by_ms).await?;
        let paying = scene.order(order.key.id, 1).await?;
        let payment = paying.payment().expect("a payment is open").deadline;
        scene.same("the payment's deadline", scene.moment(BEGIN + 130).moved(by_ms), payment)?;
        scene.same("the hold's deadline", Some(scene.moment(BEGIN + 100).moved(by_ms)), paying.deadline)?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", Some(payment), due.next)?;
        // After a failed payment, the hold's deadline applies again.
        scene.fail_payment(&order, order.key.id.value(), "done pending").await?;
        let due = scene.expire(1, (0, 0)).await?;
        scene.same("next", paying.deadline, due.next)?;
    }
    Ok(())
}

async fn a_step_moves_the_retries_of_closing(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let order = scene.place(1).await?;
    scene.open_payment(&order, order.key.id.value(), "done paying").await?;
    scene.time(BEGIN + 100).await?;
    scene.expire(1, (0, 1)).await?;
    scene.step(-STEP).await?;
    let due = scene.expire(1, (0, 0)).await?;
    scene.same("next", Some(scene.moment(BEGIN + 110).moved(-STEP)), due.next)?;
    scene.time_at(scene.moment(BEGIN + 130).moved(-STEP)).await?;
    // The grace period counts from the moved deadline.
    let due = scene.expire(1, (1, 0)).await?;
    scene.same("expired", vec![order.key], due.expired)
}

/// Mistake: one wrong reading of the clock makes a lane answer `ended` until that time has come.
async fn a_step_back_reopens_the_window(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let now = scene.now();
    let length = i64::try_from(make::SALE.as_millis()).expect("a short sale");
    scene.time_at(now.moved(length)).await?;
    let ask = scene.ask(1);
    scene.reserve(ask, "ended").await?;
    scene.step(-length).await?;
    let order = scene.place(1).await?;
    scene.same("time of placing", now, order.placed_at)
}

async fn a_step_leaves_windows_and_ended_orders(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let order = scene.place(1).await?;
    scene.pay(&order).await?;
    let before = scene.order(order.key.id, 1).await?;
    let window = scene.inspect(scene.lane(1).activity).await?.terms.window();
    scene.step(120_000).await?;
    let after = scene.order(order.key.id, 1).await?;
    scene.same("the paid order", before, after)?;
    let terms = scene.inspect(scene.lane(1).activity).await?.terms;
    scene.same("the window", window, terms.window())
}

async fn a_step_is_taken_once(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let order = scene.place(1).await?;
    let first = scene.step(-STEP).await?;
    scene.note("repeat it");
    scene.repeat(&first).await?;
    let deadline = |by_ms| Some(scene.moment(BEGIN + 100).moved(by_ms));
    scene.same("deadline", deadline(-STEP), scene.order(order.key.id, 1).await?.deadline)?;
    scene.step(60_000).await?;
    scene.note("repeat the first");
    scene.repeat(&first).await?;
    let deadline = Some(scene.moment(BEGIN + 100).moved(60_000 - STEP));
    scene.same("deadline", deadline, scene.order(order.key.id, 1).await?.deadline)?;
    let now = scene.now();
    let next = scene.place(2).await?;
    scene.same("time of the next", now, next.placed_at)
}

/// Compares the deadline of an order before and after a step.
async fn moved(scene: &Scene, order: &Order, by_ms: i64) -> Check {
    let now = scene.ok("order", scene.ledger().order(order.key).await)?;
    let expected = order.deadline.map(|deadline| deadline.moved(by_ms));
    scene.same("deadline", Some(expected), now.map(|order| order.deadline))
}

async fn a_step_reaches_every_activity(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let first = scene.place(1).await?;
    let terms = scene.next_terms(1, vec![offer(1, Strategy::PreDeduct, 9)]);
    scene.open_terms(terms).await?;
    let second = scene.place(1).await?;
    scene.step(-STEP).await?;
    moved(scene, &first, -STEP).await?;
    moved(scene, &second, -STEP).await
}

async fn a_step_reaches_every_lane(scene: &mut Scene) -> Check {
    scene.open_over(4, vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    scene.time(BEGIN).await?;
    let mut orders = Vec::new();
    for bucket in 0..4 {
        orders.push(scene.place(scene.buyer_of(bucket, 1)).await?);
    }
    scene.step(-STEP).await?;
    for order in &orders {
        moved(scene, order, -STEP).await?;
    }
    Ok(())
}

async fn a_step_is_an_event_of_the_lane(scene: &mut Scene) -> Check {
    let consumer = Consumer::new("audit");
    scene.ok("register", scene.ledger().register(&consumer).await)?;
    begin(scene).await?;
    let step = scene.step(-STEP).await?;
    let entries = scene.ledger().events(&consumer, scene.lane(1), None, 100).await;
    let entries = scene.ok("events", entries)?;
    let event = entries.last().map(|entry| entry.event.clone());
    let expected = Event::TimeStepped { id: step.id(), by_ms: -STEP, to: scene.now(), by: make::by() };
    scene.same("the last event", Some(expected), event)
}

async fn a_step_survives_a_crash(scene: &mut Scene) -> Check {
    begin(scene).await?;
    let order = scene.place(1).await?;
    let step = scene.step(-STEP).await?;
    crash(scene).await?;
    scene.note("repeat the step");
    scene.repeat(&step).await?;
    let moved = scene.order(order.key.id, 1).await?;
    scene.same("deadline", Some(scene.moment(BEGIN + 100).moved(-STEP)), moved.deadline)?;
    let now = scene.now();
    let next = scene.place(2).await?;
    scene.same("time of the next", now, next.placed_at)
}
