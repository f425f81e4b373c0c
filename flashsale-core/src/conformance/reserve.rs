//! Reserve: each unit is sold once, and a request gets all its units or none.

use super::{
    case::cases,
    make::{self, STRATEGIES, activity, limited, offer, rule, sku},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{Per, Strategy, Subject, Timestamp},
    ledger::{LedgerCalls as _, Opened, Outcome},
};

cases! {
    Deciding:
        an_unknown_activity_answers_not_ready,
        exactly_the_offered_units_are_sold,
        requests_for_one_offer_in_a_batch_are_decided_in_order,
        a_batch_larger_than_the_stock_sells_what_is_left,
        released_units_are_sold_again,
        the_price_comes_from_the_offer,
        an_order_records_the_request,
        opening_twice_changes_nothing,
        opening_with_different_terms_fails,
        an_empty_batch_gets_an_empty_answer,
        activities_and_terms_can_be_read,
        a_user_sees_only_their_own_orders,
        a_view_shows_how_many_units_can_be_ordered,
        a_view_knows_the_buyers_since_the_last_one;
}

/// Mistake: the script crashes when the stock key is missing.
async fn an_unknown_activity_answers_not_ready(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 1)]).await?;
    let ask = scene.ask(1);
    let lane = crate::ledger::Lane::first(activity(4_711));
    let answer = scene.ledger().reserve(lane, None, vec![ask.0]).await;
    let answer = scene.ok("reserve", answer)?;
    scene.same(
        "outcomes",
        vec!["not_ready".to_owned()],
        answer.outcomes.iter().map(name::of_outcome).collect(),
    )
}

/// Mistake: a comparison with `>=` sells one unit too many.
async fn exactly_the_offered_units_are_sold(scene: &mut Scene) -> Check {
    for strategy in [Strategy::OrderTime, Strategy::PreDeduct] {
        scene.open(vec![offer(1, strategy, 5)]).await?;
        let (two, three) = (scene.ask(1).units(2), scene.ask(2).units(3));
        scene.place_ask(two).await?;
        scene.stock(1, [3, 2, 0]).await?;
        let four = scene.ask(3).units(4);
        scene.reserve(four, "sold_out 3").await?;
        scene.stock(1, [3, 2, 0]).await?;
        scene.place_ask(three).await?;
        let one = scene.ask(3);
        scene.reserve(one, "sold_out 0").await?;
        scene.stock(1, [0, 5, 0]).await?;
    }
    Ok(())
}

/// Mistake: a batch checks every request against the stock before the batch.
async fn requests_for_one_offer_in_a_batch_are_decided_in_order(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 3), offer(2, Strategy::OrderTime, 1)]).await?;
    let asks = vec![
        scene.ask(1).units(2),
        scene.ask(1).of(2),
        scene.ask(1).units(2),
        scene.ask(1).units(1),
        scene.ask(1).of(2),
    ];
    let outcomes = scene.reserve_all(asks, None).await?;
    let expected = ["reserved", "reserved", "sold_out 1", "reserved", "sold_out 0"];
    scene.same(
        "outcomes",
        expected.map(String::from).to_vec(),
        outcomes.iter().map(name::of_outcome).collect(),
    )
}

async fn a_batch_larger_than_the_stock_sells_what_is_left(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 7)]).await?;
    let buyer = 5;
    let asks: Vec<_> = (0..100).map(|_| scene.ask(buyer)).collect();
    let outcomes = scene.reserve_all(asks, None).await?;
    let sold = outcomes.iter().take(7).all(|outcome| matches!(outcome, Outcome::Reserved { .. }));
    let rest = outcomes.iter().skip(7).all(|outcome| *outcome == Outcome::SoldOut { available: 0 });
    scene.holds("7 reserved and 93 sold out, in order", sold && rest, &outcomes)?;
    let mut sequences: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Reserved { position, .. } => Some(position.sequence),
            _ => None,
        })
        .collect();
    sequences.dedup();
    scene.same("distinct positions of the orders", 7, sequences.len())?;
    scene.stock(1, [0, 7, 0]).await
}

/// Mistake: a sold-out flag is never reset, so released units are not sold.
async fn released_units_are_sold_again(scene: &mut Scene) -> Check {
    for strategy in STRATEGIES {
        scene.open(vec![offer(1, strategy, 2)]).await?;
        let ask = scene.ask(1).units(2);
        let first = scene.place_ask(ask).await?;
        scene.open_payment(&first, first.key.id.value(), "done paying").await?;
        let late = scene.ask(2);
        scene.reserve(late, "sold_out 0").await?;
        scene.fail_payment(&first, first.key.id.value(), "done pending").await?;
        scene.cancel(&first, "done cancelled").await?;
        scene.stock(1, [2, 0, 0]).await?;
        scene.place_ask(late).await?;
        let last = scene.ask(3);
        let last = scene.place_ask(last).await?;
        scene.pay(&last).await?;
    }
    Ok(())
}

/// Mistake: the price is taken from the client. A request has none.
async fn the_price_comes_from_the_offer(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 10)]).await?;
    let ask = scene.ask(1).units(3);
    let order = scene.place_ask(ask).await?;
    scene.same("amount", "3897.00 CNY".to_owned(), order.amount.to_string())
}

async fn an_order_records_the_request(scene: &mut Scene) -> Check {
    let device = rule(Subject::Device, Per::Offer, 9);
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 10), &[device])]).await?;
    scene.time(5).await?;
    let ask = scene.ask(7).units(2).device(70).address(71);
    let order = scene.place_ask(ask).await?;
    scene.same("id", ask.0.order, order.key.id)?;
    scene.same("user", ask.0.user, order.key.user)?;
    scene.same("SKU", sku(1), order.sku)?;
    scene.same("quantity", 2, order.quantity.value())?;
    scene.same("key and nonce", Some(ask.0.idempotency), order.idempotency)?;
    scene.same("subjects", ask.0.subjects, order.subjects)?;
    scene.same("placed at", scene.moment(5), order.placed_at)?;
    scene.same("deadline", Some(scene.moment(105)), order.deadline)?;
    scene.same("persisted", true, order.persisted)?;
    let read = scene.order(order.key.id, 7).await?;
    scene.same("the order as read back", order, read)
}

/// Mistake: startup code sets the stock and overwrites live decrements.
async fn opening_twice_changes_nothing(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 5)]).await?;
    scene.place(1).await?;
    scene.adjust("more", 2, "done").await?;
    scene.amend(make::limits(1, &[rule(Subject::User, Per::Offer, 3)])).await?;
    scene.stock(1, [6, 1, 0]).await?;
    let terms = scene.terms.clone().expect("an activity is open");
    scene.note("open again");
    let opened = scene.ok("open", scene.ledger().open(terms).await)?;
    scene.same("open", Opened::Before, opened)?;
    scene.check().await?;
    scene.stock(1, [6, 1, 0]).await
}

async fn opening_with_different_terms_fails(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 5)]).await?;
    let before = scene.terms.clone().expect("an activity is open");
    let other =
        make::terms(before.activity().value(), 1, make::START, vec![offer(1, Strategy::OrderTime, 6)]);
    scene.note("open with different terms");
    let result = scene.ledger().open(other.into()).await;
    scene.same("open", "error: invalid", name::of_result(&result))?;
    scene.check().await?;
    scene.stock(1, [5, 0, 0]).await
}

async fn an_empty_batch_gets_an_empty_answer(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 1)]).await?;
    let lane = scene.lane(1);
    let answer = scene.ok("reserve", scene.ledger().reserve(lane, None, Vec::new()).await)?;
    scene.same("outcomes", 0, answer.outcomes.len())?;
    let answer = scene.ok("advance", scene.ledger().advance(lane, Vec::new()).await)?;
    scene.same("outcomes", 0, answer.outcomes.len())
}

async fn activities_and_terms_can_be_read(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 1)]).await?;
    let terms = scene.terms.clone().expect("an activity is open");
    let activities = scene.ok("activities", scene.ledger().activities().await)?;
    scene.same("activities", vec![terms.activity()], activities)?;
    let read = scene.ok("terms", scene.ledger().terms(terms.activity()).await)?;
    scene.same("terms", Some(terms.clone()), read)?;
    let read = scene.ok("terms", scene.ledger().terms(activity(99)).await)?;
    scene.same("terms of an unknown activity", None, read)?;
    let stock = scene.ok("stock", scene.ledger().stock(terms.activity(), sku(99)).await)?;
    scene.same("stock of an unknown SKU", None, stock)
}

/// Mistake: the query for a user's orders lacks the user filter.
async fn a_user_sees_only_their_own_orders(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 9)]).await?;
    let mine = [scene.place(1).await?, scene.place(1).await?, scene.place(1).await?];
    let theirs = scene.place(2).await?;
    let ids = |orders: &[crate::domain::Order]| orders.iter().map(|order| order.key.id).collect::<Vec<_>>();
    let [first, second, third] = mine.each_ref().map(|order| order.key.id);
    let orders = scene.ok("orders_of", scene.ledger().orders_of(make::user(1), None, 2).await)?;
    scene.same("the two latest orders", vec![third, second], ids(&orders))?;
    let orders = scene.ok("orders_of", scene.ledger().orders_of(make::user(1), Some(second), 9).await)?;
    scene.same("orders before the second", vec![first], ids(&orders))?;
    let key = crate::domain::OrderKey { user: make::user(1), ..theirs.key };
    let order = scene.ok("order", scene.ledger().order(key).await)?;
    scene.same("another user's order", None, order)?;
    let (here, elsewhere) = (Some(theirs.key.activity), Some(activity(99)));
    for (activity, expected) in [(None, Some(theirs.key)), (here, Some(theirs.key)), (elsewhere, None)] {
        let located = scene.ok("locate", scene.ledger().locate(activity, theirs.key.id).await)?;
        scene.same("key of the located order", expected, located)?;
    }
    Ok(())
}

async fn a_view_shows_how_many_units_can_be_ordered(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 2), offer(2, Strategy::PayTime, 3)]).await?;
    let takeable = |view: &crate::ledger::View| {
        view.offers.iter().map(|offer| (offer.sku.value(), offer.takeable)).collect::<Vec<_>>()
    };
    let before = scene.ok("view", scene.ledger().view(scene.lane(1)).await)?;
    scene.same("takeable", vec![(1, 2), (2, 4)], takeable(&before))?;
    scene.holds("no buyer filter while units are available", before.buyers.is_none(), &before)?;
    let ask = scene.ask(1).units(2);
    scene.place_ask(ask).await?;
    let pending = scene.ask(2).of(2);
    scene.place_ask(pending).await?;
    let after = scene.ok("view", scene.ledger().view(scene.lane(1)).await)?;
    scene.same("takeable", vec![(1, 0), (2, 3)], takeable(&after))?;
    scene.holds("the version grows", after.version > before.version, (before.version, after.version))?;
    scene.holds("the view has the lane's time", after.at > Timestamp::EPOCH, after.at)?;
    let knows = |buyer| after.buyers.as_ref().is_some_and(|buyers| buyers.may_contain(make::user(buyer)));
    scene.holds("the buyer filter contains both buyers", knows(1) && knows(2), &after)
}

/// Mistake: a winner who comes back is told "sold out" from a view that does not know him yet.
async fn a_view_knows_the_buyers_since_the_last_one(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 1), offer(2, Strategy::OrderTime, 99)]).await?;
    scene.place(1).await?;
    for buyer in 2..40 {
        let view = scene.ok("view", scene.ledger().view(scene.lane(1)).await)?;
        let unknown: Vec<_> = (1..buyer)
            .filter(|known| view.buyers.as_ref().is_none_or(|all| !all.may_contain(make::user(*known))))
            .collect();
        scene.same("buyers that the view does not know", Vec::new(), unknown)?;
        let ask = scene.ask(buyer).of(2);
        scene.place_ask(ask).await?;
    }
    Ok(())
}
