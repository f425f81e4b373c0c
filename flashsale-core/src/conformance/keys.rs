//! Keys and tickets: a repeated request gets the order that it made before.

use super::{
    case::cases,
    make::{STRATEGIES, offer},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::Strategy,
    ledger::{Outcome, ReserveMode},
};

cases! {
    Deciding:
        the_request_that_took_the_last_unit_can_be_retried,
        a_key_with_a_different_request_answers_key_reused,
        keys_are_scoped_to_the_user,
        keys_are_scoped_to_the_activity,
        a_key_repeated_in_a_batch_makes_one_order,
        a_declined_request_uses_up_neither_key_nor_ticket,
        a_replay_shows_the_current_status,
        a_ticket_makes_one_order,
        a_request_with_an_expired_ticket_makes_no_order,
        while_sales_are_stopped_requests_replay_but_make_no_order,
        every_key_and_ticket_of_a_frequent_buyer_is_kept,
        an_order_id_cannot_be_used_twice;
}

/// Mistake: duplicates are checked after the stock, so the winner's retry is told "failed".
async fn the_request_that_took_the_last_unit_can_be_retried(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        scene.open(vec![offer(1, strategy, 1)]).await?;
        let winner = scene.ask(1);
        let order = scene.place_ask(winner).await?;
        scene.open_payment(&order, winner.0.order.value(), "done paying").await?;
        let loser = scene.ask(2);
        scene.reserve(loser, "sold_out 0").await?;
        let fresh = scene.fresh();
        let again = scene.reserve(winner.id(fresh), "replayed paying").await?;
        scene.same("order returned to the retry", Some(order.key), again.order().map(|order| order.key))?;
        scene.stock(1, [0, 1, 0]).await?;
    }
    Ok(())
}

/// A key is reused with another body.
async fn a_key_with_a_different_request_answers_key_reused(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9), offer(2, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1).units(2);
    scene.place_ask(ask).await?;
    scene.reserve(ask.units(3), "key_reused").await?;
    scene.reserve(ask.of(2), "key_reused").await?;
    scene.reserve(ask, "replayed pending").await?;
    // The same request with another ticket is still the same request.
    scene.reserve(ask.nonce(9_999), "replayed pending").await?;
    scene.stock(1, [7, 2, 0]).await?;
    scene.stock(2, [9, 0, 0]).await
}

/// A key is reused by another user.
async fn keys_are_scoped_to_the_user(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let (mine, theirs) = (scene.ask(1).key(7).nonce(7), scene.ask(2).key(7).nonce(7));
    let mine = scene.place_ask(mine).await?;
    let theirs = scene.place_ask(theirs).await?;
    scene.holds("two different orders", mine.key.id != theirs.key.id, (mine.key, theirs.key))
}

async fn keys_are_scoped_to_the_activity(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    scene.place_ask(ask).await?;
    let terms = scene.next_terms(1, vec![offer(1, Strategy::PreDeduct, 9)]);
    scene.open_terms(terms).await?;
    let id = scene.fresh();
    scene.place_ask(ask.id(id)).await.map(drop)
}

async fn a_key_repeated_in_a_batch_makes_one_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    let again = ask.id(scene.fresh());
    let other = scene.ask(1).key(ask.0.idempotency.key.0).units(2);
    let outcomes = scene.reserve_all(vec![ask, again, other], None).await?;
    let expected = ["reserved", "replayed pending", "key_reused"].map(String::from).to_vec();
    scene.same("outcomes", expected, outcomes.iter().map(name::of_outcome).collect())?;
    scene.stock(1, [8, 1, 0]).await
}

/// Mistake: a declined buyer is blocked as a duplicate for an hour.
async fn a_declined_request_uses_up_neither_key_nor_ticket(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 1)]).await?;
    let holder = scene.place(1).await?;
    let ask = scene.ask(2);
    scene.reserve(ask, "sold_out 0").await?;
    scene.reserve(ask.units(2), "sold_out 0").await?;
    scene.cancel(&holder, "done cancelled").await?;
    scene.reserve(ask, "reserved").await.map(drop)
}

async fn a_replay_shows_the_current_status(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let (paid, cancelled, expired) = (scene.ask(1), scene.ask(2), scene.ask(3));
    let order = scene.place_ask(paid).await?;
    scene.pay(&order).await?;
    scene.reserve(paid, "replayed paid").await?;
    let order = scene.place_ask(cancelled).await?;
    scene.cancel(&order, "done cancelled").await?;
    scene.reserve(cancelled, "replayed cancelled").await?;
    scene.place_ask(expired).await?;
    scene.time(100).await?;
    scene.expire(3, (1, 0)).await?;
    scene.reserve(expired, "replayed expired").await.map(drop)
}

async fn a_ticket_makes_one_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    let order = scene.place_ask(ask).await?;
    let other = scene.ask(1).nonce(ask.0.idempotency.nonce.0);
    scene.reserve(other, "ticket_used").await?;
    scene.cancel(&order, "done cancelled").await?;
    scene.reserve(other, "ticket_used").await?;
    scene.reserve(other.nonce(5), "reserved").await.map(drop)
}

async fn a_request_with_an_expired_ticket_makes_no_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    scene.reserve(ask.mode(ReserveMode::TicketExpired), "ticket_expired").await?;
    scene.place_ask(ask).await?;
    scene.reserve(ask.mode(ReserveMode::TicketExpired), "replayed pending").await?;
    scene.reserve(ask.units(2).mode(ReserveMode::TicketExpired), "key_reused").await?;
    scene.stock(1, [8, 1, 0]).await
}

async fn while_sales_are_stopped_requests_replay_but_make_no_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let ask = scene.ask(1);
    scene.reserve(ask.mode(ReserveMode::SalesStopped), "paused").await?;
    scene.place_ask(ask).await?;
    scene.reserve(ask.mode(ReserveMode::SalesStopped), "replayed pending").await?;
    scene.reserve(ask.units(2).mode(ReserveMode::SalesStopped), "key_reused").await?;
    scene.stock(1, [8, 1, 0]).await
}

/// A ledger may index the keys of buyers with many orders differently from those with few.
async fn every_key_and_ticket_of_a_frequent_buyer_is_kept(scene: &mut Scene) -> Check {
    const ORDERS: u32 = 20;
    scene.open(vec![offer(1, Strategy::PreDeduct, ORDERS), offer(2, Strategy::PreDeduct, 1)]).await?;
    let stranger = scene.place(2).await?;
    let mut asks = Vec::new();
    for _ in 1..ORDERS {
        let ask = scene.ask(1);
        scene.place_ask(ask).await?;
        asks.push(ask);
        for known in &asks {
            let fresh = scene.fresh();
            scene.reserve(known.id(fresh), "replayed pending").await?;
            scene.reserve(known.id(fresh).units(2), "key_reused").await?;
            let same_ticket = scene.ask(1).of(2).nonce(known.0.idempotency.nonce.0);
            scene.reserve(same_ticket, "ticket_used").await?;
        }
    }
    let theirs = scene.ask(1).of(2).key(u128::from(stranger.key.id.value()));
    scene.reserve(theirs, "reserved").await.map(drop)
}

/// Mistake: order ids come from a fixed random seed.
async fn an_order_id_cannot_be_used_twice(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
    let first = scene.ask(1);
    let second = scene.ask(1).id(first.0.order.value());
    let outcomes = scene.reserve_all(vec![first], None).await?;
    scene.holds("reserved", matches!(outcomes[0], Outcome::Reserved { .. }), &outcomes)?;
    scene.reserve(second, "id_taken").await?;
    scene.stock(1, [8, 1, 0]).await
}
