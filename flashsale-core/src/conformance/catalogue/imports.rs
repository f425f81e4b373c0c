//! Imports: whole or not at all, and what they leave alone.

use serde_json::json;

use super::{
    CatalogueUnderTest,
    desk::{Desk, activity, activity_id, name, only, product, product_id, set, with_term},
};
use crate::{
    catalogue::{CatalogueError, Counts, Refusal, Versioned},
    conformance::{
        scene::Check,
        small_suite::{Steps, at, small_cases},
    },
    domain::{
        Activity,
        ActivityStatus::{Approved, Archived, Draft, Published, Submitted},
        Selling, Window,
    },
};

small_cases![
    CatalogueUnderTest;
    importing_twice_changes_nothing,
    an_import_is_whole_or_not_at_all,
    an_import_cannot_change_the_terms_of_a_published_offer,
    an_import_follows_the_status,
    a_relative_window_is_fixed_by_the_first_import,
    an_import_resumes_nothing;
    random:
];

fn counts(created: u64, changed: u64, unchanged: u64) -> Counts {
    Counts { created, changed, unchanged }
}

async fn importing_twice_changes_nothing(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let mut set = set(Published);
    let report = desk.import(&set).await?;
    let all = (report.products, report.skus, report.activities);
    desk.steps.same("the report", (counts(2, 0, 0), counts(3, 0, 0), counts(1, 0, 0)), all)?;
    let trail = desk.rows(0).await?;
    desk.steps.same("the number of rows", 6, trail.len())?;

    let report = desk.import(&set).await?;
    let all = (report.products, report.skus, report.activities);
    desk.steps.same("the report", (counts(0, 0, 2), counts(0, 0, 3), counts(0, 0, 1)), all)?;
    let after = desk.rows(0).await?;
    desk.steps.same("the trail", trail, after)?;

    set.skus[1].name = name("蓝色 / L");
    let report = desk.import(&set).await?;
    desk.steps.same("the report on SKUs", counts(0, 1, 2), report.skus)?;
    let stored = desk.steps.ok(subject.catalogue.sku(set.skus[1].id).await)?;
    desk.steps.same("the changed SKU", Some(Versioned { version: 2, value: set.skus[1].clone() }), stored)?;
    let added = desk.rows(6).await?;
    let subjects: Vec<_> = added.iter().map(|row| row.change.subject.as_str()).collect();
    desk.steps.same("the subjects of the new rows", vec!["sku/12"], subjects)
}

async fn an_import_is_whole_or_not_at_all(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let mut faulty = set(Published);
    faulty.skus[0].product_id = product_id(9);
    faulty.products.push(product(2));
    faulty.activities = only(activity(Published, &[12, 99])).activities;
    let answer = desk.try_import(&faulty).await;
    let parts = [
        "product/2: id: appears twice",
        "sku/11: product_id: the product 9 does not exist",
        "offer/1/99: sku_id: the SKU 99 does not exist",
    ];
    desk.is_refused(&parts, answer)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [0; 4], sizes)?;

    let many: Vec<_> = (1..=Refusal::MAX_REPORTED as u64 + 1).collect();
    let answer = desk.try_import(&only(activity(Draft, &many))).await;
    let reported = match &answer {
        Err(CatalogueError::Refused(refusals)) => refusals.len(),
        _ => 0,
    };
    desk.steps.holds("no more refusals than fit", reported == Refusal::MAX_REPORTED, answer)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [0; 4], sizes)?;
    desk.is_intact(0).await
}

async fn an_import_cannot_change_the_terms_of_a_published_offer(
    subject: CatalogueUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Published)).await?;
    let old = activity(Published, &[11, 21]);
    let terms = [
        ("price", json!({"amount": 800, "currency": "CNY"}), ""),
        ("units", json!(11), "; use an adjustment"),
        ("strategy", json!("order_time"), ""),
        ("hold_seconds", json!(61), ""),
        ("late_capture", json!("retake"), ""),
    ];
    for (field, value, hint) in terms {
        let answer = desk.try_import(&only(with_term(&old, field, value))).await;
        let part = format!("offer/1/11: {field}: cannot change while the activity is published{hint}");
        desk.is_refused(&[&part], answer)?;
    }
    let answer = desk.try_import(&only(activity(Published, &[11]))).await;
    desk.is_refused(&["offer/1/21: sku_id: the offer is missing"], answer)?;
    let answer = desk.try_import(&only(activity(Published, &[11, 21, 12]))).await;
    desk.is_refused(&["offer/1/12: sku_id: an offer cannot be added"], answer)?;

    let mut allowed = with_term(&old, "limits", json!([{"subject": "user", "per": "offer", "max": 2}]));
    allowed.name = name("renamed");
    allowed.window = Window::new(at(2_500), at(9_000)).expect("valid window");
    let report = desk.import(&only(allowed.clone())).await?;
    desk.steps.same("the report on activities", counts(0, 1, 0), report.activities)?;
    let stored = desk.steps.ok(subject.catalogue.activity(activity_id(1)).await)?;
    desk.steps.same("the activity", Some(Versioned { version: 2, value: allowed }), stored)
}

async fn an_import_follows_the_status(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let answer = desk.try_import(&set(Submitted)).await;
    desk.is_refused(&["activity/1: status: an import accepts draft or published"], answer)?;
    let draft = set(Draft);
    desk.import(&draft).await?;
    let mut next = activity(Draft, &[11, 21]);
    for (version, status) in (1..).zip([Submitted, Approved, Published, Archived]) {
        next.status = status;
        if status == Approved {
            next.reviewer = Some(name("li"));
        }
        desk.activity(Some(version), next.clone()).await?;
        // A file with a draft moves no activity back.
        let report = desk.import(&draft).await?;
        desk.steps.same("the report on activities", counts(0, 0, 1), report.activities)?;
        if status != Published {
            let renamed = Activity { name: name("other"), ..activity(Draft, &[11, 21]) };
            let answer = desk.try_import(&only(renamed)).await;
            desk.is_refused(&["activity/1: name: cannot change"], answer)?;
        }
    }
    Ok(())
}

async fn a_relative_window_is_fixed_by_the_first_import(
    subject: CatalogueUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let mut set = set(Published);
    set.activities[0].relative_window = true;
    desk.import(&set).await?;
    set.activities[0].activity.window = Window::new(at(5_000), at(6_000)).expect("valid window");
    let report = desk.import(&set).await?;
    desk.steps.same("the report on activities", counts(0, 0, 1), report.activities)?;
    set.activities[0].relative_window = false;
    let report = desk.import(&set).await?;
    desk.steps.same("the report on activities", counts(0, 1, 0), report.activities)
}

async fn an_import_resumes_nothing(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Published)).await?;
    for (version, selling) in (1..).zip([Selling::Paused, Selling::Ended]) {
        let changed = Activity { selling, ..activity(Published, &[11, 21]) };
        desk.activity(Some(version), changed).await?;
        let report = desk.import(&set(Published)).await?;
        desk.steps.same("the report on activities", counts(0, 0, 1), report.activities)?;
    }
    Ok(())
}
