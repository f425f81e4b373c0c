//! Limits on the quantity per user, device and address.

use super::{
    case::cases,
    make::{self, limited, limits, offer, rule},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{LateCapture, Per, Strategy, Subject},
    ledger::{ChangeId, LedgerCalls as _},
};

cases! {
    Deciding:
        limits_are_compared_as_numbers,
        a_limit_counts_unpaid_orders,
        a_limit_outlives_the_hold,
        an_order_that_ends_unpaid_no_longer_counts,
        a_refunded_order_still_counts,
        a_limit_per_activity_counts_all_offers,
        a_limit_per_offer_counts_one_offer,
        devices_and_addresses_are_counted_across_users,
        a_request_without_the_subject_of_a_rule_is_declined,
        the_first_failing_rule_is_reported,
        a_batch_counts_its_own_orders,
        an_amended_limit_counts_earlier_orders,
        a_limit_set_again_counts_orders_placed_without_it;
    Buckets:
        a_limit_that_buckets_cannot_enforce_is_rejected,
        a_user_limit_holds_in_every_bucket;
}

const USER: Subject = Subject::User;

/// Mistake: numbers are compared as strings: with 10 units, a buyer passes a limit of 9.
async fn limits_are_compared_as_numbers(scene: &mut Scene) -> Check {
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 50), &[rule(USER, Per::Offer, 10)])]).await?;
    let (nine, two) = (scene.ask(1).units(9), scene.ask(1).units(2));
    scene.place_ask(nine).await?;
    scene.reserve(two, "limit_reached user/offer 10 remaining 1").await?;
    scene.place(1).await?;
    let one = scene.ask(1);
    scene.reserve(one, "limit_reached user/offer 10 remaining 0").await?;
    scene.amend(limits(1, &[rule(USER, Per::Offer, 9)])).await?;
    scene.reserve(one, "limit_reached user/offer 9 remaining 0").await?;
    scene.place(2).await.map(drop)
}

async fn a_limit_counts_unpaid_orders(scene: &mut Scene) -> Check {
    for strategy in make::STRATEGIES {
        scene.open(vec![limited(offer(1, strategy, 9), &[rule(USER, Per::Offer, 1)])]).await?;
        let order = scene.place(1).await?;
        let again = scene.ask(1);
        scene.reserve(again, "limit_reached user/offer 1 remaining 0").await?;
        scene.open_payment(&order, order.key.id.value(), "done paying").await?;
        scene.reserve(again, "limit_reached user/offer 1 remaining 0").await?;
    }
    Ok(())
}

/// Mistake: a limit that expires with the hold lets a buyer buy again after paying.
async fn a_limit_outlives_the_hold(scene: &mut Scene) -> Check {
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 9), &[rule(USER, Per::Offer, 1)])]).await?;
    let order = scene.place(1).await?;
    scene.pay(&order).await?;
    let again = scene.ask(1);
    scene.reserve(again, "limit_reached user/offer 1 remaining 0").await?;
    scene.time(3_000).await?;
    scene.expire(1, (0, 0)).await?;
    scene.reserve(again, "limit_reached user/offer 1 remaining 0").await.map(drop)
}

async fn an_order_that_ends_unpaid_no_longer_counts(scene: &mut Scene) -> Check {
    for strategy in make::STRATEGIES {
        let rules = [rule(USER, Per::Offer, 2), rule(USER, Per::Activity, 2)];
        scene.open(vec![limited(offer(1, strategy, 9), &rules)]).await?;
        let ask = scene.ask(1).units(2);
        let order = scene.place_ask(ask).await?;
        let again = scene.ask(1);
        scene.reserve(again, "limit_reached user/offer 2 remaining 0").await?;
        scene.cancel(&order, "done cancelled").await?;
        let second = scene.place_ask(again).await?;
        if strategy != Strategy::OrderTime {
            scene.time(100).await?;
            scene.expire(1, (1, 0)).await?;
            scene.status(&second, "expired").await?;
            let ask = scene.ask(1).units(2);
            scene.place_ask(ask).await?;
        }
    }
    Ok(())
}

async fn a_refunded_order_still_counts(scene: &mut Scene) -> Check {
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 9), &[rule(USER, Per::Offer, 1)])]).await?;
    let order = scene.place(1).await?;
    scene.pay(&order).await?;
    scene.refund(&order, true, "done paid").await?;
    scene.stock(1, [9, 0, 0]).await?;
    let again = scene.ask(1);
    scene.reserve(again, "limit_reached user/offer 1 remaining 0").await.map(drop)
}

async fn a_limit_per_activity_counts_all_offers(scene: &mut Scene) -> Check {
    let rules = [rule(USER, Per::Activity, 3)];
    let offers = [1, 2].map(|n| limited(offer(n, Strategy::PreDeduct, 9), &rules));
    scene.open(offers.to_vec()).await?;
    let ask = scene.ask(1).units(2);
    scene.place_ask(ask).await?;
    let too_many = scene.ask(1).of(2).units(2);
    scene.reserve(too_many, "limit_reached user/activity 3 remaining 1").await?;
    let one = scene.ask(1).of(2);
    scene.place_ask(one).await?;
    let more = scene.ask(1);
    scene.reserve(more, "limit_reached user/activity 3 remaining 0").await?;
    scene.place(2).await.map(drop)
}

async fn a_limit_per_offer_counts_one_offer(scene: &mut Scene) -> Check {
    let offers = [1, 2].map(|n| limited(offer(n, Strategy::PreDeduct, 9), &[rule(USER, Per::Offer, 1)]));
    scene.open(offers.to_vec()).await?;
    scene.place(1).await?;
    let other = scene.ask(1).of(2);
    scene.place_ask(other).await?;
    let again = scene.ask(1).of(2);
    scene.reserve(again, "limit_reached user/offer 1 remaining 0").await.map(drop)
}

async fn devices_and_addresses_are_counted_across_users(scene: &mut Scene) -> Check {
    let rules = [rule(Subject::Device, Per::Offer, 2), rule(Subject::Address, Per::Activity, 3)];
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 20), &rules)]).await?;
    for (buyer, device, address, expected) in [
        (1, 1, 1, "reserved"),
        (2, 1, 2, "reserved"),
        (3, 1, 3, "limit_reached device/offer 2 remaining 0"),
        (3, 2, 1, "reserved"),
        (4, 3, 1, "reserved"),
        (5, 4, 1, "limit_reached address/activity 3 remaining 0"),
        (5, 4, 4, "reserved"),
    ] {
        let ask = scene.ask(buyer).device(device).address(address);
        scene.reserve(ask, expected).await?;
    }
    Ok(())
}

async fn a_request_without_the_subject_of_a_rule_is_declined(scene: &mut Scene) -> Check {
    scene
        .open(vec![limited(offer(1, Strategy::PreDeduct, 9), &[rule(Subject::Device, Per::Offer, 2)])])
        .await?;
    let bare = scene.ask(1);
    scene.reserve(bare, "limit_reached device/offer 2 remaining 0").await?;
    scene.reserve(bare.device(0), "reserved").await.map(drop)
}

async fn the_first_failing_rule_is_reported(scene: &mut Scene) -> Check {
    let rules =
        [rule(Subject::Device, Per::Offer, 3), rule(USER, Per::Activity, 1), rule(USER, Per::Offer, 1)];
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 1), &rules)]).await?;
    let ask = scene.ask(1).device(1);
    scene.place_ask(ask).await?;
    // Both user rules fail, and the offer is sold out too.
    let again = scene.ask(1).device(1);
    scene.reserve(again, "limit_reached user/activity 1 remaining 0").await?;
    scene.reserve(again.units(3), "limit_reached device/offer 3 remaining 2").await.map(drop)
}

async fn a_batch_counts_its_own_orders(scene: &mut Scene) -> Check {
    scene.open(vec![limited(offer(1, Strategy::PreDeduct, 9), &[rule(USER, Per::Offer, 2)])]).await?;
    let asks = vec![scene.ask(1), scene.ask(1).units(2), scene.ask(1), scene.ask(1)];
    let outcomes = scene.reserve_all(asks, None).await?;
    let expected = [
        "reserved",
        "limit_reached user/offer 2 remaining 1",
        "reserved",
        "limit_reached user/offer 2 remaining 0",
    ];
    scene.same(
        "outcomes",
        expected.map(String::from).to_vec(),
        outcomes.iter().map(name::of_outcome).collect(),
    )
}

async fn an_amended_limit_counts_earlier_orders(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    let ask = scene.ask(1).units(3).device(8);
    let order = scene.place_ask(ask).await?;
    let gone = scene.ask(1).units(4).device(8);
    let gone = scene.place_ask(gone).await?;
    scene.cancel(&gone, "done cancelled").await?;
    scene.amend(limits(1, &[rule(USER, Per::Offer, 4), rule(Subject::Device, Per::Activity, 3)])).await?;
    let two = scene.ask(1).units(2).device(9);
    scene.reserve(two, "limit_reached user/offer 4 remaining 1").await?;
    let stranger = scene.ask(2).device(8);
    scene.reserve(stranger, "limit_reached device/activity 3 remaining 0").await?;
    scene.cancel(&order, "done cancelled").await?;
    scene.reserve(two, "reserved").await?;
    scene.reserve(stranger, "reserved").await.map(drop)
}

async fn a_limit_set_again_counts_orders_placed_without_it(scene: &mut Scene) -> Check {
    let offer = offer(1, Strategy::PreDeduct, 20).with_late_capture(LateCapture::Retake);
    scene.open(vec![limited(offer, &[rule(USER, Per::Offer, 2)])]).await?;
    let first = scene.place(1).await?;
    scene.amend(limits(1, &[])).await?;
    let many = scene.ask(1).units(5);
    scene.place_ask(many).await?;
    scene.cancel(&first, "done cancelled").await?;
    scene.amend(limits(1, &[rule(USER, Per::Offer, 6)])).await?;
    let two = scene.ask(1).units(2);
    scene.reserve(two, "limit_reached user/offer 6 remaining 1").await.map(drop)
}

async fn a_limit_that_buckets_cannot_enforce_is_rejected(scene: &mut Scene) -> Check {
    scene.open_over(2, vec![offer(1, Strategy::PreDeduct, 20)]).await?;
    scene.note("amend to a limit per device");
    let change = limits(1, &[rule(Subject::Device, Per::Offer, 1)]);
    let activity = scene.lane(1).activity;
    let result = scene.ledger().amend(activity, ChangeId(9), change, make::by()).await;
    scene.same("amend", "error: invalid", name::of_result(&result))?;
    scene.place(1).await?;
    scene.place(1).await.map(drop)
}

async fn a_user_limit_holds_in_every_bucket(scene: &mut Scene) -> Check {
    let offers = vec![limited(offer(1, Strategy::PreDeduct, 40), &[rule(USER, Per::Offer, 2)])];
    scene.open_over(4, offers).await?;
    for bucket in 0..4 {
        let buyer = scene.buyer_of(bucket, 1);
        let ask = scene.ask(buyer).units(2);
        scene.place_ask(ask).await?;
        let more = scene.ask(buyer);
        scene.reserve(more, "limit_reached user/offer 2 remaining 0").await?;
    }
    Ok(())
}
