//! Adjustments change units by a delta; they never set a value.

use super::{
    case::cases,
    make::{self, offer},
    scene::{Check, Scene},
};
use crate::{domain::Strategy, ledger::LedgerCalls as _};

cases! {
    Deciding:
        added_units_can_be_sold,
        a_removal_takes_all_its_units_or_none,
        an_adjustment_is_applied_once,
        an_invalid_adjustment_is_rejected,
        held_and_sold_units_cannot_be_removed;
}

/// Mistake: a sold-out flag is never reset, so added units are not sold.
async fn added_units_can_be_sold(scene: &mut Scene) -> Check {
    for strategy in make::STRATEGIES {
        scene.open(vec![offer(1, strategy, 1)]).await?;
        let first = scene.place(1).await?;
        scene.open_payment(&first, first.key.id.value(), "done paying").await?;
        let ask = scene.ask(2).units(2);
        scene.reserve(ask, "sold_out 0").await?;
        scene.adjust("two more", 2, "done").await?;
        scene.stock(1, [2, 1, 0]).await?;
        let order = scene.place_ask(ask).await?;
        scene.pay(&order).await?;
        scene.stock(1, [0, 1, 2]).await?;
    }
    Ok(())
}

async fn a_removal_takes_all_its_units_or_none(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 5)]).await?;
    scene.place(1).await?;
    scene.adjust("five", -5, "insufficient 4").await?;
    scene.stock(1, [4, 1, 0]).await?;
    scene.adjust("four", -4, "done").await?;
    scene.stock(1, [0, 1, 0]).await?;
    scene.adjust("one", -1, "insufficient 0").await?;
    let ask = scene.ask(2);
    scene.reserve(ask, "sold_out 0").await?;
    // A declined adjustment leaves no trace, so its id can be used again.
    scene.adjust("back", 3, "done").await?;
    scene.adjust("one", -1, "done").await?;
    scene.stock(1, [2, 1, 0]).await
}

async fn an_adjustment_is_applied_once(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 5), offer(2, Strategy::OrderTime, 5)]).await?;
    let activity = scene.lane(1).activity;
    let id = make::adjustment_id("补货 #1");
    let known = scene.ok("adjustment", scene.ledger().adjustment(activity, &id).await)?;
    scene.same("adjustment before", None, known)?;
    for expected in ["done", "replayed", "replayed"] {
        scene.adjust("补货 #1", 7, expected).await?;
        scene.stock(1, [12, 0, 0]).await?;
    }
    scene.adjust("补货 #1", 8, "id_reused").await?;
    scene.adjust("补货 #1", -7, "id_reused").await?;
    scene.adjust_sku("补货 #1", 2, 7, "id_reused").await?;
    scene.stock(1, [12, 0, 0]).await?;
    scene.stock(2, [5, 0, 0]).await?;
    let known = scene.ok("adjustment", scene.ledger().adjustment(activity, &id).await)?;
    scene.same("adjustment after", Some((make::sku(1), 7)), known)
}

/// Mistake: a quantity of −5 turns a stock of 1 into 6.
async fn an_invalid_adjustment_is_rejected(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::OrderTime, 5)]).await?;
    for delta in [0, 1_000_000_001, -1_000_000_001, i64::MAX, i64::MIN] {
        scene.adjust("invalid", delta, "error: invalid").await?;
    }
    scene.adjust_sku("invalid", 99, 1, "unknown_offer").await?;
    scene.stock(1, [5, 0, 0]).await?;
    scene.adjust("as much as there is", 1_000_000_000, "done").await?;
    scene.adjust("and back", -1_000_000_000, "done").await?;
    scene.stock(1, [5, 0, 0]).await
}

/// Mistake: a job that syncs the stock by copying a number overwrites live decrements.
async fn held_and_sold_units_cannot_be_removed(scene: &mut Scene) -> Check {
    scene.open(vec![offer(1, Strategy::PreDeduct, 5)]).await?;
    let (sold, held) = (scene.ask(1).units(2), scene.ask(2).units(2));
    let sold = scene.place_ask(sold).await?;
    scene.pay(&sold).await?;
    let held = scene.place_ask(held).await?;
    scene.adjust("two", -2, "insufficient 1").await?;
    scene.adjust("one", -1, "done").await?;
    scene.stock(1, [0, 2, 2]).await?;
    scene.cancel(&held, "done cancelled").await?;
    scene.stock(1, [2, 0, 2]).await?;
    scene.adjust("two", -2, "done").await?;
    scene.stock(1, [0, 0, 2]).await
}
