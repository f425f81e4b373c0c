//! The status table: what each step does to an order in each status, under each strategy.

use super::{
    case::cases,
    failure::Failure,
    make::{self, STRATEGIES, offer},
    scene::{Check, Scene},
};
use crate::{
    domain::{LateCapture, Order, Strategy},
    ledger::{Advance, RefundOutcome},
};

cases! {
    Deciding:
        every_step_in_every_status_follows_the_table,
        every_repeated_step_changes_nothing,
        steps_by_another_user_are_not_found;
}

/// The status of an order that [`bring`] made. Its first payment, number 1, has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Pending,
    Paying,
    Paid,
    Cancelled,
    Expired,
}

pub(super) const ALL: [At; 5] = [At::Pending, At::Paying, At::Paid, At::Cancelled, At::Expired];

/// A step of an order that [`bring`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Opens a payment under a new id.
    Open,
    /// Opens the failed payment again, as after a lost reply.
    OpenAgain,
    /// Captures the last payment.
    Capture,
    /// Captures the first payment with another transaction.
    CaptureFirst,
    Fail,
    FailFirst,
    Close,
    Cancel,
    Refund,
    Settle,
}

pub(super) const STEPS: [Step; 10] = [
    Step::Open,
    Step::OpenAgain,
    Step::Capture,
    Step::CaptureFirst,
    Step::Fail,
    Step::FailFirst,
    Step::Close,
    Step::Cancel,
    Step::Refund,
    Step::Settle,
];

/// The status table: the outcome of a step, and where the order's two units are afterwards.
fn cell(at: At, step: Step) -> (&'static str, Units) {
    use Units::{Free, Held, Open, Sold};
    let stays = match at {
        At::Pending => Open,
        At::Paying => Held,
        At::Paid => Sold,
        At::Cancelled | At::Expired => Free,
    };
    match (at, step) {
        (At::Pending, Step::Open) => ("done paying", Held),
        (At::Pending, Step::Capture | Step::CaptureFirst) => ("done paid", Sold),
        (At::Pending, Step::Cancel) => ("done cancelled", Free),
        (At::Pending, Step::Refund) => ("wrong_state pending", stays),
        (At::Pending, Step::OpenAgain | Step::Fail | Step::FailFirst | Step::Close) => {
            ("replayed pending", stays)
        }

        (At::Paying, Step::Open | Step::OpenAgain | Step::FailFirst) => ("replayed paying", stays),
        (At::Paying, Step::Capture | Step::CaptureFirst) => ("done paid", Sold),
        (At::Paying, Step::Fail | Step::Close) => ("done pending", Open),
        (At::Paying, Step::Cancel | Step::Refund) => ("wrong_state paying", stays),

        (At::Paid, Step::Open | Step::Cancel) => ("wrong_state paid", stays),
        (At::Paid, Step::Capture) => ("replayed paid", stays),
        (At::Paid, Step::CaptureFirst) => ("refund_due paid paid_twice", stays),
        (At::Paid, Step::OpenAgain | Step::Fail | Step::FailFirst | Step::Close) => ("replayed paid", stays),
        (At::Paid, Step::Refund) => ("done paid", Free),

        (At::Cancelled, Step::Open | Step::Refund) => ("wrong_state cancelled", stays),
        (At::Cancelled, Step::Capture | Step::CaptureFirst) => ("refund_due cancelled order_closed", stays),
        (At::Cancelled, Step::Cancel) => ("replayed cancelled", stays),
        (At::Cancelled, Step::OpenAgain | Step::Fail | Step::FailFirst | Step::Close) => {
            ("replayed cancelled", stays)
        }

        (At::Expired, Step::Open | Step::Refund | Step::Cancel) => ("wrong_state expired", stays),
        (At::Expired, Step::Capture | Step::CaptureFirst) => ("refund_due expired order_closed", stays),
        (At::Expired, Step::OpenAgain | Step::Fail | Step::FailFirst | Step::Close) => {
            ("replayed expired", stays)
        }

        (_, Step::Settle) => ("not_found", stays),
    }
}

/// The state of an order's two units.
#[derive(Clone, Copy, Debug)]
enum Units {
    /// Of a pending order: held, but available under the pay-time strategy.
    Open,
    Held,
    Sold,
    Free,
}

impl Units {
    /// Returns (available, held, sold) of an offer of ten units.
    fn of(self, strategy: Strategy) -> [i64; 3] {
        match self {
            Self::Open if strategy == Strategy::PayTime => [10, 0, 0],
            Self::Open | Self::Held => [8, 2, 0],
            Self::Sold => [8, 0, 2],
            Self::Free => [10, 0, 0],
        }
    }
}

async fn every_step_in_every_status_follows_the_table(scene: &mut Scene) -> Check {
    cells(scene, false).await
}

/// Repeats every step: the second answer reports the result of the first, and no unit moves twice.
async fn every_repeated_step_changes_nothing(scene: &mut Scene) -> Check {
    cells(scene, true).await
}

async fn cells(scene: &mut Scene, twice: bool) -> Check {
    for strategy in STRATEGIES {
        for at in ALL {
            if at == At::Expired && strategy == Strategy::OrderTime {
                continue; // It has no deadline here; `expiry` tests one that has.
            }
            for step in STEPS {
                let order = bring(scene, strategy, at, LateCapture::Refund).await?;
                scene.note(format!("{strategy:?}, {at:?} order: {step:?}"));
                let (expected, units) = cell(at, step);
                let built = build(scene, &order, at, step);
                scene.advance(built.clone(), expected).await?;
                scene.stock(1, units.of(strategy)).await?;
                if twice {
                    let expected = repeated(expected);
                    scene.advance(built, &expected).await?;
                    scene.stock(1, units.of(strategy)).await?;
                }
            }
        }
    }
    Ok(())
}

/// Returns the outcome of a repeated step, given that of the first: the order's current status.
fn repeated(first: &str) -> String {
    match first.split_once(' ') {
        Some(("done", status)) => format!("replayed {status}"),
        Some(("refund_due", status)) => {
            format!("replayed {}", status.split(' ').next().unwrap_or_default())
        }
        _ => first.to_owned(),
    }
}

/// Opens an activity of ten units and brings an order for two of them to a status.
pub(super) async fn bring(
    scene: &mut Scene,
    strategy: Strategy,
    at: At,
    late: LateCapture,
) -> Result<Order, Failure> {
    scene.open(vec![offer(1, strategy, 10).with_late_capture(late)]).await?;
    let ask = scene.ask(1).units(2);
    let order = scene.place_ask(ask).await?;
    let [first, last] = payments(&order);
    scene.open_payment(&order, first, "done paying").await?;
    scene.fail_payment(&order, first, "done pending").await?;
    match at {
        At::Pending => {}
        At::Paying => scene.open_payment(&order, last, "done paying").await?,
        At::Paid => {
            scene.open_payment(&order, last, "done paying").await?;
            scene.capture(&order, last, last, "done paid").await?;
        }
        At::Cancelled => scene.cancel(&order, "done cancelled").await?,
        At::Expired => {
            scene.time(100).await?;
            scene.expire(1, (1, 0)).await?;
        }
    }
    Ok(order)
}

/// Returns the ids of an order's first and last payment.
fn payments(order: &Order) -> [u64; 2] {
    let id = order.key.id.value() * 1_000;
    [id + 1, id + 2]
}

/// Makes a step for an order that [`bring`] made.
pub(super) fn build(scene: &mut Scene, order: &Order, at: At, step: Step) -> Advance {
    let [first, last] = payments(order);
    let last = if matches!(at, At::Paying | At::Paid) { last } else { first };
    let (key, provider) = (order.key, make::provider("sandbox"));
    let open = |payment| Advance::OpenPayment {
        order: key,
        payment: make::payment_id(payment),
        provider: provider.clone(),
        in_parts: false,
    };
    match step {
        Step::Open => open(scene.fresh()),
        Step::OpenAgain => open(first),
        Step::Capture => {
            let replacement = make::order_id(scene.fresh());
            let capture = make::capture_of(order, last, last);
            Advance::Capture { order: key, capture, in_parts: false, replacement }
        }
        Step::CaptureFirst => {
            let replacement = make::order_id(scene.fresh());
            let capture = make::capture_of(order, first, 77_000_000 + first);
            Advance::Capture { order: key, capture, in_parts: false, replacement }
        }
        Step::Fail => Advance::PaymentFailed { order: key, payment: make::payment_id(last) },
        Step::FailFirst => Advance::PaymentFailed { order: key, payment: make::payment_id(first) },
        Step::Close => Advance::PaymentClosed { order: key, payment: make::payment_id(last) },
        Step::Cancel => Advance::Cancel { order: key, by: None },
        Step::Refund => Advance::Refund { order: key, refund: make::whole_refund(1), by: make::by() },
        Step::Settle => Advance::RefundSettled {
            order: key,
            payment: make::payment_id(last),
            provider,
            transaction: format!("txn-{last}"),
            number: 0,
            outcome: RefundOutcome::Done,
        },
    }
}

/// Mistake: an order is released without checking its owner.
async fn steps_by_another_user_are_not_found(scene: &mut Scene) -> Check {
    for at in ALL {
        for step in STEPS {
            let order = bring(scene, Strategy::PreDeduct, at, LateCapture::Refund).await?;
            let before = scene.order(order.key.id, 1).await?;
            let mut foreign = order.clone();
            foreign.key.user = make::user(2);
            let built = build(scene, &foreign, at, step);
            scene.advance(built, "not_found").await?;
            let after = scene.order(order.key.id, 1).await?;
            scene.same("order after another user's step", before, after)?;
        }
    }
    Ok(())
}
