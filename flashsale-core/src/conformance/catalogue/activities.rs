//! The rules on what may change of an activity, and their audit rows.

use serde_json::json;

use super::{
    CatalogueUnderTest,
    desk::{Desk, activity, activity_id, goods, name, set, with_term},
};
use crate::{
    catalogue::Versioned,
    conformance::{
        scene::Check,
        small_suite::{Steps, small_cases},
    },
    domain::{
        Activity,
        ActivityStatus::{Approved, Archived, Draft, Published, Submitted},
        Selling,
    },
};

small_cases![
    CatalogueUnderTest;
    edits_follow_the_status,
    offers_refer_to_skus,
    only_what_is_published_is_paused_and_what_ended_stays_ended,
    rows_say_which_step_was_taken;
    random:
];

async fn edits_follow_the_status(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    let answer = desk.try_activity(None, activity(Published, &[11])).await;
    desk.is_refused(&["activity/1: status: a new activity is a draft, not published"], answer)?;
    desk.activity(None, activity(Draft, &[11])).await?;
    let answer = desk.try_activity(Some(1), activity(Published, &[11])).await;
    desk.is_refused(&["activity/1: status: cannot go from draft to published"], answer)?;
    desk.activity(Some(1), activity(Submitted, &[11, 21])).await?;
    let answer = desk.try_activity(Some(2), activity(Approved, &[11])).await;
    desk.is_refused(&["offer/1/21: sku_id: the offer is missing"], answer)?;
    let by_creator = Activity { reviewer: Some(name("chen")), ..activity(Approved, &[11, 21]) };
    let answer = desk.try_activity(Some(2), by_creator).await;
    desk.is_refused(&["activity/1: reviewer: must not be the creator"], answer)?;
    desk.activity(Some(2), activity(Approved, &[11, 21])).await?;
    desk.activity(Some(3), activity(Published, &[11, 21])).await?;
    let fewer = with_term(&activity(Published, &[11, 21]), "units", json!(1));
    let answer = desk.try_activity(Some(4), fewer).await;
    desk.is_refused(
        &["offer/1/11: units: cannot change while the activity is published; use an adjustment"],
        answer,
    )?;
    let renamed = Activity { name: name("great sale"), ..activity(Published, &[11, 21]) };
    desk.activity(Some(4), renamed.clone()).await?;
    let stored = desk.steps.ok(subject.catalogue.activity(activity_id(1)).await)?;
    desk.steps.same("the activity", Some(Versioned { version: 5, value: renamed }), stored)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 1, 10], sizes)
}

async fn offers_refer_to_skus(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    let answer = desk.try_activity(None, activity(Draft, &[98, 11, 99])).await;
    let parts =
        ["offer/1/98: sku_id: the SKU 98 does not exist", "offer/1/99: sku_id: the SKU 99 does not exist"];
    desk.is_refused(&parts, answer)?;
    let dollars = with_term(&activity(Draft, &[11]), "price", json!({"amount": 900, "currency": "USD"}));
    let answer = desk.try_activity(None, dollars).await;
    desk.is_refused(&["offer/1/11: currency: the price is in USD"], answer)?;
    let answer = desk.try_activity(None, activity(Draft, &[11, 11])).await;
    desk.is_refused(&["activity/1: sku_id: the SKU 11 is offered twice"], answer)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 0, 5], sizes)
}

async fn only_what_is_published_is_paused_and_what_ended_stays_ended(
    subject: CatalogueUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Draft)).await?;
    let paused = Activity { selling: Selling::Paused, ..activity(Draft, &[11, 21]) };
    let answer = desk.try_activity(Some(1), paused).await;
    desk.is_refused(
        &["activity/1: selling: cannot go from on to paused while the activity is draft"],
        answer,
    )?;
    desk.import(&set(Published)).await?;
    let on = activity(Published, &[11, 21]);
    desk.activity(Some(2), Activity { selling: Selling::Ended, ..on.clone() }).await?;
    let answer = desk.try_activity(Some(3), on).await;
    desk.is_refused(&["activity/1: selling: cannot go from ended to on"], answer)
}

async fn rows_say_which_step_was_taken(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    let mut next = activity(Draft, &[11]);
    desk.activity(None, next.clone()).await?;
    let li = Some(name("li"));
    let taken = [
        (Submitted, Selling::On, None, "submitted"),
        (Draft, Selling::On, None, "rejected"),
        (Submitted, Selling::On, None, "submitted"),
        (Approved, Selling::On, li.clone(), "approved"),
        (Draft, Selling::On, None, "rejected"),
        (Submitted, Selling::On, None, "submitted"),
        (Approved, Selling::On, li.clone(), "approved"),
        (Published, Selling::On, li.clone(), "published"),
        (Published, Selling::Paused, li.clone(), "paused"),
        (Published, Selling::On, li.clone(), "resumed"),
        (Published, Selling::Ended, li.clone(), "ended"),
        (Archived, Selling::Ended, li, "archived"),
    ];
    for ((status, selling, reviewer, verb), version) in taken.into_iter().zip(1..) {
        (next.status, next.selling, next.reviewer) = (status, selling, reviewer);
        desk.activity(Some(version), next.clone()).await?;
        let rows = desk.rows(version + 5).await?;
        let actions: Vec<_> = rows.iter().map(|row| row.change.action.as_str()).collect();
        desk.steps.same("the action of the row", vec![format!("activity.{verb}").as_str()], actions)?;
    }
    let resumed = Activity { status: Published, selling: Selling::On, ..next };
    let answer = desk.try_activity(Some(13), resumed).await;
    desk.is_refused(&["activity/1: status: cannot go from archived to published"], answer)
}
