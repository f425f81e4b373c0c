//! Precedence: of several possible outcomes of a reserve, the first in the fixed order wins.

use super::{
    case::cases,
    make::{self, Ask, limits, offer, rule, window},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{OrderKey, Per, Selling, Strategy, Subject},
    ledger::{Adjustment, Advance, Change, Consumer, Epoch, Lane, LedgerCalls as _, ReserveMode},
};

cases! {
    Deciding:
        of_two_possible_outcomes_the_first_wins,
        of_two_errors_the_first_in_the_order_wins,
        the_window_is_enforced_by_reserve,
        pausing_or_ending_stops_only_reserve,
        an_ended_activity_stays_ended,
        the_latest_change_wins_in_any_order;
}

/// The ways not to make an order, in the order of precedence, each with its outcome.
const WAYS: [(Way, &str); 13] = [
    (Way::UnknownOffer, "unknown_offer"),
    (Way::NotReady, "not_ready"),
    (Way::Replayed, "replayed pending"),
    (Way::KeyReused, "key_reused"),
    (Way::TicketExpired, "ticket_expired"),
    (Way::SalesStopped, "paused"),
    (Way::Paused, "paused"),
    (Way::NotStarted, "not_started"),
    (Way::Ended, "ended"),
    (Way::TicketUsed, "ticket_used"),
    (Way::IdTaken, "id_taken"),
    (Way::LimitReached, "limit_reached user/offer 1 remaining 0"),
    (Way::SoldOut, "sold_out 0"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    UnknownOffer,
    NotReady,
    Replayed,
    KeyReused,
    TicketExpired,
    SalesStopped,
    Paused,
    NotStarted,
    Ended,
    TicketUsed,
    IdTaken,
    LimitReached,
    SoldOut,
}

/// Tests every pair of outcomes that can apply at once, such as a replay of a sold-out offer.
async fn of_two_possible_outcomes_the_first_wins(scene: &mut Scene) -> Check {
    for (index, (first, expected)) in WAYS.into_iter().enumerate() {
        for (second, _) in WAYS.into_iter().skip(index) {
            if are_exclusive(first, second) {
                continue;
            }
            scene.open(vec![offer(1, Strategy::OrderTime, 2)]).await?;
            let known = scene.place(1).await?;
            let mut request = (scene.ask(1), None);
            let mut ways = vec![second, first];
            ways.dedup();
            for way in ways {
                request = arrange(scene, way, request, known.key.id.value()).await?;
            }
            scene.note(format!("reserve where {first:?} and {second:?} apply"));
            scene.reserve_in(request.0, request.1, expected).await?;
        }
    }
    Ok(())
}

/// A window has one state, a key belongs to one order, and a request has one mode.
fn are_exclusive(first: Way, second: Way) -> bool {
    matches!(
        (first, second),
        (Way::Replayed, Way::KeyReused)
            | (Way::NotStarted, Way::Ended)
            | (Way::TicketExpired, Way::SalesStopped)
    )
}

/// Changes the ledger or the request so that `way` applies. No way undoes another.
async fn arrange(
    scene: &mut Scene,
    way: Way,
    (ask, epoch): (Ask, Option<Epoch>),
    known: u64,
) -> Result<(Ask, Option<Epoch>), super::Failure> {
    let now = scene.now();
    Ok(match way {
        Way::UnknownOffer => (ask.of(99), epoch),
        Way::NotReady => (ask, Some(Epoch(77))),
        Way::Replayed => (ask.key(known.into()), epoch),
        Way::KeyReused => (ask.key(known.into()).units(2), epoch),
        Way::TicketExpired => (ask.mode(ReserveMode::TicketExpired), epoch),
        Way::SalesStopped => (ask.mode(ReserveMode::SalesStopped), epoch),
        Way::TicketUsed => (ask.nonce(known), epoch),
        Way::IdTaken => (ask.id(known), epoch),
        Way::Paused => {
            scene.amend(Change::Selling(Selling::Paused)).await?;
            (ask, epoch)
        }
        Way::NotStarted => {
            let later = now.after(super::make::seconds(1));
            scene.amend(Change::Window(window(later, later.after(super::make::SALE)))).await?;
            (ask, epoch)
        }
        Way::Ended => {
            scene.amend(Change::Window(window(now.before(super::make::seconds(1)), now))).await?;
            (ask, epoch)
        }
        Way::LimitReached => {
            scene.amend(limits(1, &[rule(Subject::User, Per::Offer, 1)])).await?;
            (ask, epoch)
        }
        Way::SoldOut => {
            scene.adjust("all that is left", -1, "done").await?;
            (ask, epoch)
        }
    })
}

async fn of_two_errors_the_first_in_the_order_wins(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let order = scene.place(1).await?;
    let (ledger, lane) = (scene.ledger(), scene.lane(1));
    let elsewhere = Lane { activity: make::activity(77), ..lane };
    let cancel = |activity| Advance::Cancel { order: OrderKey { activity, ..order.key }, by: None };
    let nobody = Consumer::new("nobody");
    let (not_open, invalid) = ("error: not open", "error: invalid");
    scene.note("an order of another activity; nothing is open");
    let answer = ledger.advance(elsewhere, vec![cancel(lane.activity)]).await;
    scene.same("advance", invalid, name::of_result(&answer))?;
    let answer = ledger.advance(elsewhere, vec![cancel(elsewhere.activity)]).await;
    scene.same("advance", not_open, name::of_result(&answer))?;
    let send = |lane: Lane| ledger.send(lane, lane.bucket, make::sku(1), 1);
    scene.same("send to itself, not open", not_open, name::of_result(&send(elsewhere).await))?;
    scene.same("send to itself", invalid, name::of_result(&send(lane).await))?;
    let adjust = |activity, delta| {
        let (sku, id, by) = (make::sku(1), make::adjustment_id("too much"), make::by());
        ledger.adjust(Adjustment { activity, sku, id, delta, by })
    };
    let answer = adjust(elsewhere.activity, 2_000_000_000).await;
    scene.same("too large an adjustment, not open", invalid, name::of_result(&answer))?;
    scene.same("adjust", not_open, name::of_result(&adjust(elsewhere.activity, 1).await))?;
    let answer = ledger.events(&nobody, elsewhere, None, 9).await;
    scene.same("events for nobody, not open", not_open, name::of_result(&answer))?;
    scene.same("events for nobody", invalid, name::of_result(&ledger.events(&nobody, lane, None, 9).await))
}

/// Mistake: the sale window is enforced only on the page, not in the ledger.
async fn the_window_is_enforced_by_reserve(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let (from, to) = (scene.moment(10), scene.moment(20));
    scene.amend(Change::Window(window(from, to))).await?;
    let early = scene.ask(1);
    let outcome = scene.reserve(early, "not_started").await?;
    scene.same("outcome", crate::ledger::Outcome::NotStarted { starts_at: from }, outcome)?;
    scene.time_at(from.before(std::time::Duration::from_millis(1))).await?;
    scene.reserve(early, "not_started").await?;
    scene.time_at(from).await?;
    scene.reserve(early, "reserved").await?;
    let late = scene.ask(1);
    scene.time_at(to.before(std::time::Duration::from_millis(1))).await?;
    scene.place(2).await?;
    scene.time_at(to).await?;
    scene.reserve(late, "ended").await?;
    scene.reserve(early, "replayed pending").await.map(drop)
}

/// While an activity is paused or ended, open orders can still be paid, cancelled and expired.
async fn pausing_or_ending_stops_only_reserve(scene: &mut Scene) -> Check {
    for selling in [Selling::Paused, Selling::Ended] {
        scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
        let (paid, cancelled, _expired) =
            (scene.place(1).await?, scene.place(2).await?, scene.place(3).await?);
        scene.amend(Change::Selling(selling)).await?;
        let ask = scene.ask(4);
        scene.reserve(ask, if selling == Selling::Paused { "paused" } else { "ended" }).await?;
        scene.pay(&paid).await?;
        scene.cancel(&cancelled, "done cancelled").await?;
        scene.time(100).await?;
        scene.expire(3, (1, 0)).await?;
        scene.stock(1, [8, 0, 1]).await?;
        scene.amend(Change::Selling(Selling::On)).await?;
        scene.reserve(ask, if selling == Selling::Paused { "reserved" } else { "ended" }).await?;
    }
    Ok(())
}

async fn an_ended_activity_stays_ended(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    for selling in [Selling::Ended, Selling::On, Selling::Paused] {
        scene.amend(Change::Selling(selling)).await?;
        let ask = scene.ask(1);
        scene.reserve(ask, "ended").await?;
    }
    Ok(())
}

async fn the_latest_change_wins_in_any_order(scene: &mut Scene) -> Check {
    use crate::ledger::ChangeId;
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let activity = scene.lane(1).activity;
    let (later, earlier) = (Change::Selling(Selling::On), Change::Selling(Selling::Paused));
    for (id, change) in [(20, &later), (10, &earlier), (10, &later), (20, &earlier)] {
        scene.note(format!("amend {id} to {change:?}"));
        let amended = scene.ledger().amend(activity, ChangeId(id), change.clone(), super::make::by()).await;
        scene.ok("amend", amended)?;
        scene.check().await?;
        scene.place(1).await?;
    }
    scene.note("amend 30 to limits of an unknown SKU");
    let change = limits(99, &[]);
    let result = scene.ledger().amend(activity, ChangeId(30), change, super::make::by()).await;
    scene.same("amend", "error: invalid", super::name::of_result(&result))?;
    let unknown = super::make::activity(99);
    let result = scene.ledger().amend(unknown, ChangeId(1), later, super::make::by()).await;
    scene.same("amend", "error: not open", super::name::of_result(&result))
}
