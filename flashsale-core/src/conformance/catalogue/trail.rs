//! The audit trail and the kill switch.

use serde_json::json;

use super::{
    CatalogueUnderTest,
    desk::{Desk, adjusted, by, name, product, set, sku},
};
use crate::{
    catalogue::AuditHash,
    conformance::{
        scene::Check,
        small_suite::{Steps, at, small_cases},
    },
    domain::{ActivityStatus::Draft, Product},
};

small_cases![
    CatalogueUnderTest;
    a_change_and_its_row_are_one_step,
    rows_are_chained_in_order,
    a_change_made_elsewhere_is_recorded_once,
    the_time_of_rows_does_not_go_back,
    the_kill_switch_counts_its_turns;
    random:
];

async fn a_change_and_its_row_are_one_step(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.product(None, product(1)).await?;
    let rows = desk.rows(0).await?;
    let [row] = &rows[..] else { return Err(desk.steps.failure("one row", format!("{rows:?}"))) };
    desk.steps.same(
        "actor and reason",
        (by().actor, by().reason),
        (row.actor.clone(), row.reason.clone()),
    )?;
    desk.steps.same("the time", at(0), row.at)?;
    let (action, subject_) = (row.change.action.as_str(), row.change.subject.as_str());
    desk.steps.same("action and subject", ("product.created", "product/1"), (action, subject_))?;
    desk.steps.same("the version", &json!(1), &row.change.detail["version"])?;

    let renamed = Product { name: name("cup"), ..product(1) };
    desk.product(Some(1), renamed.clone()).await?;
    let rows = desk.rows(1).await?;
    let changes: Vec<_> = rows.iter().map(|row| (row.change.action.as_str(), &row.change.detail)).collect();
    let detail = json!({"version": 2, "changed": {"name": {"was": "product 1", "is": "cup"}}});
    desk.steps.same("the rows of the change", vec![("product.changed", &detail)], changes)?;

    // Nothing changes without a row, and there is no row without a change.
    let answer = desk.try_product(Some(1), product(1)).await;
    desk.steps.holds("an error", answer.is_err(), answer)?;
    let answer = desk.try_sku(None, sku(11, 9)).await;
    desk.steps.holds("an error", answer.is_err(), answer)?;
    desk.product(Some(2), renamed).await?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [1, 0, 0, 2], sizes)
}

async fn rows_are_chained_in_order(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.is_intact(0).await?;
    desk.import(&set(Draft)).await?;
    desk.switch(true).await?;
    desk.record("event", adjusted(-5)).await?;
    desk.product(Some(1), Product { name: name("cup"), ..product(1) }).await?;
    let rows = desk.rows(0).await?;
    let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
    desk.steps.same("the sequences", (1..=9).collect(), sequences)?;
    let mut before = AuditHash::default();
    for row in &rows {
        desk.steps.same(&format!("row {} refers to", row.sequence), before, row.previous)?;
        desk.steps.holds("a hash of its own", row.hash != before, row)?;
        before = row.hash;
    }
    let check = desk.steps.ok(subject.catalogue.verify_audit().await)?;
    desk.steps.same("the hash of the last row", before, check.hash)?;
    desk.is_intact(9).await
}

async fn a_change_made_elsewhere_is_recorded_once(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    for (event, change, is_new) in [
        ("ledger/1/0/17", adjusted(-5), true),
        ("ledger/1/0/17", adjusted(-5), false),
        // The name decides, not the content.
        ("ledger/1/0/17", adjusted(-6), false),
        ("ledger/1/0/18", adjusted(-5), true),
    ] {
        let recorded = desk.record(event, change).await?;
        desk.steps.same("whether the event is new", is_new, recorded)?;
    }
    let rows = desk.rows(0).await?;
    let recorded: Vec<_> = rows.into_iter().map(|row| (row.event, row.change)).collect();
    let expected = ["ledger/1/0/17", "ledger/1/0/18"].map(|event| (Some(name(event)), adjusted(-5)));
    desk.steps.same("events and changes of the rows", expected.to_vec(), recorded)?;
    desk.is_intact(2).await
}

async fn the_time_of_rows_does_not_go_back(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    for (ms, expected) in [(1_000, 1_000), (10, 1_000), (2_000, 2_000)] {
        desk.steps.step(format!("the clock shows {:?}", at(ms)));
        subject.probe.set_time(at(ms)).await;
        desk.record(&format!("at {ms}"), adjusted(1)).await?;
        let rows = desk.rows(0).await?;
        desk.steps.same("the time of the last row", Some(at(expected)), rows.last().map(|row| row.at))?;
    }
    Ok(())
}

async fn the_kill_switch_counts_its_turns(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let switch = desk.steps.ok(subject.catalogue.kill_switch().await)?;
    desk.steps.same("a kill switch that was never used", None, switch)?;
    for (ms, on, version, since) in
        [(10, true, 1, 10), (20, true, 1, 10), (30, false, 2, 30), (40, true, 3, 40)]
    {
        subject.probe.set_time(at(ms)).await;
        let switch = desk.switch(on).await?;
        desk.steps.same("version and state", (version, on), (switch.version, switch.value.on))?;
        desk.steps.same(
            "since when and by whom",
            (at(since), by()),
            (switch.value.at, switch.value.by.clone()),
        )?;
        let stored = desk.steps.ok(subject.catalogue.kill_switch().await)?;
        desk.steps.same("the stored state", Some(switch), stored)?;
    }
    let rows = desk.rows(0).await?;
    let actions: Vec<_> = rows.iter().map(|row| row.change.action.as_str()).collect();
    desk.steps.same(
        "the actions of the rows",
        vec!["kill_switch.on", "kill_switch.off", "kill_switch.on"],
        actions,
    )
}
