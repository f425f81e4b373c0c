//! Optimistic versions, references, lists, and concurrent writers.

use std::{fmt::Debug, sync::Arc};

use serde_json::json;
use tokio::task::JoinSet;

use super::{
    CatalogueUnderTest,
    desk::{Desk, activity, activity_id, adjusted, by, goods, name, product, product_id, set, sku, sku_id},
};
use crate::{
    catalogue::{CatalogueError, ImportSet, Item, MAX_PAGE, Versioned},
    conformance::{
        concurrency::poll_at_most,
        scene::Check,
        small_suite::{Steps, small_cases},
    },
    domain::{Activity, ActivityStatus::Draft, Product, ProductId, Sku, SkuId},
};

small_cases![
    CatalogueUnderTest;
    each_change_is_a_version,
    another_version_is_a_conflict,
    what_does_not_exist_is_not_found,
    a_write_that_changes_nothing_makes_no_version,
    an_sku_has_a_product_and_keeps_its_currency,
    skus_are_listed_by_product,
    pages_skip_nothing,
    of_concurrent_writers_one_wins,
    concurrent_imports_create_once,
    dropped_calls_are_done_or_not,
    everything_survives_a_restart;
    random:
];

const PRODUCT: Item = Item::Product(ProductId::new(1).expect("at least 1"));

fn renamed(text: &str) -> Product {
    Product { name: name(text), ..product(1) }
}

async fn each_change_is_a_version(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let catalogue = &subject.catalogue;
    for (version, text) in (1..).zip(["a", "b", "a"]) {
        let expected = Versioned { version, value: renamed(text) };
        let put = desk.product((version > 1).then_some(version - 1), renamed(text)).await?;
        desk.steps.same("the answer", &expected, &put)?;
        let stored = desk.steps.ok(catalogue.product(product_id(1)).await)?;
        desk.steps.same("the stored product", Some(expected), stored)?;
    }
    for (version, text) in (1..).zip(["L", "XL"]) {
        let value = Sku { name: name(text), ..sku(11, 1) };
        desk.sku((version > 1).then_some(version - 1), value.clone()).await?;
        let stored = desk.steps.ok(catalogue.sku(sku_id(11)).await)?;
        desk.steps.same("the stored SKU", Some(Versioned { version, value }), stored)?;
    }
    for (version, text) in (1..).zip(["sale", "great sale"]) {
        let value = Activity { name: name(text), ..activity(Draft, &[11]) };
        desk.activity((version > 1).then_some(version - 1), value.clone()).await?;
        let stored = desk.steps.ok(catalogue.activity(activity_id(1)).await)?;
        desk.steps.same("the stored activity", Some(Versioned { version, value }), stored)?;
    }
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [1, 1, 1, 7], sizes)
}

async fn another_version_is_a_conflict(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Draft)).await?;
    desk.product(Some(1), renamed("a")).await?;
    for expected in [None, Some(0), Some(1), Some(3)] {
        let answer = desk.try_product(expected, renamed("b")).await;
        desk.is_conflict(PRODUCT, (expected, 2), answer)?;
    }
    for expected in [None, Some(2)] {
        let answer = desk.try_sku(expected, sku(11, 2)).await;
        desk.is_conflict(Item::Sku(sku_id(11)), (expected, 1), answer)?;
        let answer = desk.try_activity(expected, activity(Draft, &[12])).await;
        desk.is_conflict(Item::Activity(activity_id(1)), (expected, 1), answer)?;
    }
    let stored = desk.steps.ok(subject.catalogue.product(product_id(1)).await)?;
    desk.steps.same("the product", Some(Versioned { version: 2, value: renamed("a") }), stored)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 1, 7], sizes)
}

async fn what_does_not_exist_is_not_found(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    let answer = desk.try_product(Some(1), product(9)).await;
    desk.is_not_found(Item::Product(product_id(9)), answer)?;
    let answer = desk.try_sku(Some(1), sku(19, 1)).await;
    desk.is_not_found(Item::Sku(sku_id(19)), answer)?;
    let answer = desk.try_activity(Some(1), activity(Draft, &[11])).await;
    desk.is_not_found(Item::Activity(activity_id(1)), answer)?;
    let found = desk.steps.ok(subject.catalogue.product(product_id(9)).await)?;
    desk.steps.same("the product", None, found)?;
    let found = desk.steps.ok(subject.catalogue.sku(sku_id(19)).await)?;
    desk.steps.same("the SKU", None, found)?;
    let found = desk.steps.ok(subject.catalogue.activity(activity_id(1)).await)?;
    desk.steps.same("the activity", None, found)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 0, 5], sizes)
}

async fn a_write_that_changes_nothing_makes_no_version(
    subject: CatalogueUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Draft)).await?;
    let put = desk.product(Some(1), product(1)).await?;
    desk.steps.same("the version of the product", 1, put.version)?;
    let put = desk.sku(Some(1), sku(11, 1)).await?;
    desk.steps.same("the version of the SKU", 1, put.version)?;
    let put = desk.activity(Some(1), activity(Draft, &[11, 21])).await?;
    desk.steps.same("the version of the activity", 1, put.version)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 1, 6], sizes)
}

async fn an_sku_has_a_product_and_keeps_its_currency(
    subject: CatalogueUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    let answer = desk.try_sku(None, sku(91, 9)).await;
    desk.is_refused(&["sku/91: product_id: the product 9 does not exist"], answer)?;
    let answer = desk.try_sku(Some(1), sku(11, 9)).await;
    desk.is_refused(&["sku/11: product_id: the product 9 does not exist"], answer)?;
    let mut document = serde_json::to_value(sku(11, 1)).expect("an SKU is JSON");
    document["list_price"]["currency"] = json!("USD");
    let dollars: Sku = serde_json::from_value(document).expect("valid SKU");
    let answer = desk.try_sku(Some(1), dollars.clone()).await;
    desk.is_refused(&["sku/11: currency: is CNY and cannot become USD"], answer)?;
    let answer = desk.try_import(&ImportSet { skus: vec![dollars], ..ImportSet::default() }).await;
    desk.is_refused(&["sku/11: currency: is CNY and cannot become USD"], answer)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 0, 5], sizes)
}

async fn skus_are_listed_by_product(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&goods()).await?;
    // It moves to another product.
    desk.sku(Some(1), sku(12, 2)).await?;
    let lists = [
        (1, None, 10, &[11][..]),
        (2, None, 10, &[12, 21]),
        (2, SkuId::new(12), 10, &[21]),
        (2, None, 1, &[12]),
        (2, SkuId::new(21), 10, &[]),
        (9, None, 10, &[]),
    ];
    for (of, after, limit, expected) in lists {
        let list = desk.steps.ok(subject.catalogue.skus_of(product_id(of), after, limit).await)?;
        let ids: Vec<_> = list.iter().map(|sku| sku.value.id.value()).collect();
        desk.steps.same(&format!("{limit} SKUs of product {of} after {after:?}"), expected, &ids)?;
    }
    Ok(())
}

async fn pages_skip_nothing(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    let many = u64::try_from(MAX_PAGE).expect("a page is small") + 1;
    // Out of order.
    let products: Vec<_> = (1..=many).rev().map(product).collect();
    let skus = [12, 11, 13].map(|id| sku(id, 1)).to_vec();
    let activities = [3, 1, 2].map(|id| Activity { id: activity_id(id), ..activity(Draft, &[11]) });
    let activities = activities.map(|activity| super::desk::only(activity).activities).concat();
    desk.import(&ImportSet { products, skus, activities }).await?;

    let catalogue = &subject.catalogue;
    let whole = desk.steps.ok(catalogue.products(None, usize::MAX).await)?;
    let ids = |page: &[Versioned<Product>]| page.iter().map(|one| one.value.id.value()).collect::<Vec<_>>();
    desk.steps.same("no more products than a page has", MAX_PAGE, whole.len())?;
    desk.steps.holds("sorted by id", whole.is_sorted_by_key(|one| one.value.id), ids(&whole))?;
    let rest = desk.steps.ok(catalogue.products(whole.last().map(|last| last.value.id), MAX_PAGE).await)?;
    desk.steps.same("the products after that page", vec![many], ids(&rest))?;
    let none = desk.steps.ok(catalogue.products(None, 0).await)?;
    desk.steps.same("a page of 0", Vec::<u64>::new(), ids(&none))?;
    let last = ProductId::new(u64::MAX >> 1);
    let none = desk.steps.ok(catalogue.products(last, 10).await)?;
    desk.steps.same("after the last id", Vec::<u64>::new(), ids(&none))?;

    for (after, expected) in [(None, vec![11, 12]), (SkuId::new(12), vec![13]), (SkuId::new(13), vec![])] {
        let page = desk.steps.ok(catalogue.skus(after, 2).await)?;
        let ids: Vec<_> = page.iter().map(|one| one.value.id.value()).collect();
        desk.steps.same(&format!("two SKUs after {after:?}"), expected, ids)?;
    }
    for (after, expected) in [(0, vec![1, 2]), (2, vec![3]), (3, vec![])] {
        let after = (after > 0).then(|| activity_id(after));
        let page = desk.steps.ok(catalogue.activities(after, 2).await)?;
        let ids: Vec<_> = page.iter().map(|one| one.value.id.value()).collect();
        desk.steps.same(&format!("two activities after {after:?}"), expected, ids)?;
    }
    let rows = desk.steps.ok(catalogue.audit(0, usize::MAX).await)?;
    desk.steps.same("no more rows than a page has", MAX_PAGE, rows.len())?;
    let rows = desk.steps.ok(catalogue.audit(many + 4, 10).await)?;
    let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
    desk.steps.same("the rows after most", vec![many + 5, many + 6], sequences)?;
    let rows = desk.steps.ok(catalogue.audit(u64::MAX, 10).await)?;
    desk.steps.same("the number of rows after the last", 0, rows.len())
}

/// Fails unless one of the answers is `Ok`, and the others say what was found.
fn one_wins<T: Debug>(steps: &Steps, found: u64, answers: Vec<Result<T, CatalogueError>>) -> Check {
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    let lost = |answer: &&Result<T, CatalogueError>| matches!(answer, Err(CatalogueError::Conflict { found: seen, .. }) if *seen == found);
    let lost = answers.iter().filter(lost).count();
    let expected = (1, answers.len() - 1);
    steps.holds(&format!("one write, and conflicts with version {found}"), expected == (won, lost), answers)
}

async fn of_concurrent_writers_one_wins(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let desk = Desk::new(&subject, steps);
    for round in 0..u64::from(desk.steps.options.rounds) {
        let expected = (round > 0).then_some(round);
        desk.steps.step(format!("8 writers put product 1 over {expected:?}"));
        let mut writers = JoinSet::new();
        for number in 0..8 {
            let (catalogue, mine) = (Arc::clone(&subject.catalogue), renamed(&format!("{round} {number}")));
            writers.spawn(async move { catalogue.put_product(expected, mine, &by()).await });
        }
        one_wins(desk.steps, round + 1, writers.join_all().await)?;
    }
    desk.steps.step("8 writers record one event");
    let mut writers = JoinSet::new();
    for number in 0..8 {
        let catalogue = Arc::clone(&subject.catalogue);
        writers.spawn(async move { catalogue.record(&name("event"), adjusted(number), &by()).await });
    }
    let answers: Vec<_> = writers.join_all().await.into_iter().map(Result::ok).collect();
    let recorded = answers.iter().filter(|answer| **answer == Some(true)).count();
    let known = answers.iter().filter(|answer| **answer == Some(false)).count();
    desk.steps.same("recorded, and known", (1, 7), (recorded, known))?;
    let rows = desk.steps.options.rounds as usize + 1;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [1, 0, 0, rows], sizes)?;
    desk.is_intact(rows).await
}

async fn concurrent_imports_create_once(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let desk = Desk::new(&subject, steps);
    desk.steps.step("8 writers import one set");
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let catalogue = Arc::clone(&subject.catalogue);
        writers.spawn(async move { catalogue.import(&set(Draft), &by()).await });
    }
    let mut created = 0;
    for answer in writers.join_all().await {
        let report = desk.steps.ok(answer)?;
        created += report.products.created + report.skus.created + report.activities.created;
        let changed = report.products.changed + report.skus.changed + report.activities.changed;
        desk.steps.same("the number of changed items", 0, changed)?;
    }
    desk.steps.same("the number of created items", 6, created)?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 1, 6], sizes)?;
    desk.is_intact(6).await
}

async fn dropped_calls_are_done_or_not(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    for polls in 0..4 {
        desk.steps.step(format!("import, and drop the future after {polls} polls"));
        poll_at_most(polls, subject.catalogue.import(&set(Draft), &by())).await;
        let sizes = desk.sizes().await?;
        // The numbers are read one after the other, so only the last of them is of one moment.
        desk.steps.holds("no row or all rows", [0, 6].contains(&sizes[3]), sizes)?;
    }
    desk.import(&set(Draft)).await?;
    let sizes = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", [2, 3, 1, 6], sizes)
}

async fn everything_survives_a_restart(subject: CatalogueUnderTest, steps: &mut Steps) -> Check {
    let mut desk = Desk::new(&subject, steps);
    desk.import(&set(Draft)).await?;
    desk.product(Some(1), renamed("a")).await?;
    desk.record("event", adjusted(-5)).await?;
    let switch = desk.switch(true).await?;
    let rows = desk.rows(0).await?;
    let sizes = desk.sizes().await?;
    desk.steps.step("crash and restart");
    let Some(again) = subject.probe.restart().await else { return Ok(()) };
    desk.catalogue = Arc::clone(&again.catalogue);
    let after = desk.sizes().await?;
    desk.steps.same("products, SKUs, activities, rows", sizes, after)?;
    let after = desk.rows(0).await?;
    desk.steps.same("the trail", &rows, &after)?;
    desk.is_intact(rows.len()).await?;
    let stored = desk.steps.ok(again.catalogue.product(product_id(1)).await)?;
    desk.steps.same("the product", Some(Versioned { version: 2, value: renamed("a") }), stored)?;
    let stored = desk.steps.ok(again.catalogue.activity(activity_id(1)).await)?;
    desk.steps.same(
        "the activity",
        Some(Versioned { version: 1, value: activity(Draft, &[11, 21]) }),
        stored,
    )?;
    let of_1 = desk.steps.ok(again.catalogue.skus_of(product_id(1), None, 10).await)?;
    desk.steps.same("the SKUs of product 1", 2, of_1.len())?;
    let stored = desk.steps.ok(again.catalogue.kill_switch().await)?;
    desk.steps.same("the kill switch", Some(switch), stored)?;
    let is_new = desk.record("event", adjusted(-5)).await?;
    desk.steps.same("whether the event is new", false, is_new)?;
    desk.product(Some(2), renamed("b")).await?;
    desk.is_intact(rows.len() + 1).await
}
