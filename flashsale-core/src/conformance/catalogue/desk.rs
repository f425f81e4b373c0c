//! An operator's desk: the catalogue under test, with test data, steps and checks.

use std::{fmt::Debug, sync::Arc};

use serde_json::{Value, json};

use super::CatalogueUnderTest;
use crate::{
    catalogue::{
        AuditRow, Catalogue, CatalogueError, Change, ImportReport, ImportSet, ImportedActivity, Item,
        KillSwitch, Versioned,
    },
    conformance::{
        failure::Failure,
        scene::Check,
        small_suite::{Steps, at},
    },
    domain::{Activity, ActivityId, ActivityStatus, Attribution, Name, Product, ProductId, Sku, SkuId},
};

pub(super) fn by() -> Attribution {
    Attribution {
        actor: "chen".parse().expect("valid name"), reason: "双十一".parse().expect("valid text")
    }
}

pub(super) fn product_id(id: u64) -> ProductId {
    ProductId::new(id).expect("at least 1")
}

pub(super) fn sku_id(id: u64) -> SkuId {
    SkuId::new(id).expect("at least 1")
}

pub(super) fn activity_id(id: u64) -> ActivityId {
    ActivityId::new(id).expect("at least 1")
}

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("valid name")
}

pub(super) fn product(id: u64) -> Product {
    let document = json!({"id": id.to_string(), "name": format!("product {id}")});
    serde_json::from_value(document).expect("valid product")
}

pub(super) fn sku(id: u64, product: u64) -> Sku {
    let price = json!({"amount": 1_000, "currency": "CNY"});
    let document = json!({
        "id": id.to_string(), "product_id": product.to_string(), "name": "红色 / L", "list_price": price,
    });
    serde_json::from_value(document).expect("valid SKU")
}

/// Makes activity 1 with offers of `skus`. From approval on it has a reviewer.
pub(super) fn activity(status: ActivityStatus, skus: &[u64]) -> Activity {
    let offer = |sku: &u64| {
        json!({
            "sku_id": sku.to_string(), "price": {"amount": 900, "currency": "CNY"}, "units": 10,
            "strategy": "pre_deduct", "hold_seconds": 60,
        })
    };
    let reviewed = !matches!(status, ActivityStatus::Draft | ActivityStatus::Submitted);
    let document = json!({
        "id": "1", "name": "sale", "description": null, "window": [at(2_000), at(3_000)], "creator": "chen",
        "reviewer": reviewed.then_some("li"), "status": status,
        "offers": skus.iter().map(offer).collect::<Vec<_>>(),
    });
    serde_json::from_value(document).expect("valid activity")
}

/// Changes a field of the first offer.
pub(super) fn with_term(activity: &Activity, field: &str, value: Value) -> Activity {
    let mut document = serde_json::to_value(activity).expect("an activity is JSON");
    document["offers"][0][field] = value;
    serde_json::from_value(document).expect("valid activity")
}

/// Makes a set of products 1 and 2, SKUs 11, 12 and 21, and activity 1 with offers of 11 and 21.
pub(super) fn set(status: ActivityStatus) -> ImportSet {
    ImportSet {
        products: vec![product(1), product(2)],
        skus: vec![sku(11, 1), sku(12, 1), sku(21, 2)],
        activities: only(activity(status, &[11, 21])).activities,
    }
}

/// Makes a set of one activity.
pub(super) fn only(activity: Activity) -> ImportSet {
    let activities = vec![ImportedActivity { activity, relative_window: false }];
    ImportSet { activities, ..ImportSet::default() }
}

/// Makes a set without activities.
pub(super) fn goods() -> ImportSet {
    ImportSet { activities: vec![], ..set(ActivityStatus::Draft) }
}

/// Makes a change of an offer that was made elsewhere.
pub(super) fn adjusted(delta: i64) -> Change {
    Change {
        action: name("offer.adjusted"),
        subject: name(&Item::Offer(activity_id(1), sku_id(11)).to_string()),
        detail: json!({"delta": delta}),
    }
}

/// The catalogue under test, with the steps of a case.
pub(super) struct Desk<'a> {
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) steps: &'a mut Steps,
}

impl<'a> Desk<'a> {
    pub(super) fn new(subject: &CatalogueUnderTest, steps: &'a mut Steps) -> Self {
        Self { catalogue: Arc::clone(&subject.catalogue), steps }
    }

    // Steps whose answer the case judges.

    pub(super) async fn try_import(&mut self, set: &ImportSet) -> Result<ImportReport, CatalogueError> {
        let (products, skus) = (set.products.len(), set.skus.len());
        let activities: Vec<_> = set.activities.iter().map(|imported| &imported.activity.status).collect();
        self.steps.step(format!("import {products} products, {skus} SKUs, activities {activities:?}"));
        self.catalogue.import(set, &by()).await
    }

    pub(super) async fn try_product(
        &mut self,
        expected: Option<u64>,
        product: Product,
    ) -> Result<Versioned<Product>, CatalogueError> {
        self.steps.step(format!("put product {} over {expected:?}: {:?}", product.id, product.name));
        self.catalogue.put_product(expected, product, &by()).await
    }

    pub(super) async fn try_sku(
        &mut self,
        expected: Option<u64>,
        sku: Sku,
    ) -> Result<Versioned<Sku>, CatalogueError> {
        self.steps.step(format!("put SKU {} of product {} over {expected:?}", sku.id, sku.product_id));
        self.catalogue.put_sku(expected, sku, &by()).await
    }

    pub(super) async fn try_activity(
        &mut self,
        expected: Option<u64>,
        activity: Activity,
    ) -> Result<Versioned<Activity>, CatalogueError> {
        let skus: Vec<_> = activity.offers.iter().map(|offer| offer.sku().value()).collect();
        let (status, selling) = (activity.status, activity.selling);
        self.steps
            .step(format!("put {status:?} activity over {expected:?}, selling {selling:?}, offers {skus:?}"));
        self.catalogue.put_activity(expected, activity, &by()).await
    }

    // Steps that must succeed.

    pub(super) async fn import(&mut self, set: &ImportSet) -> Result<ImportReport, Failure> {
        let answer = self.try_import(set).await;
        self.steps.ok(answer)
    }

    pub(super) async fn product(
        &mut self,
        expected: Option<u64>,
        product: Product,
    ) -> Result<Versioned<Product>, Failure> {
        let answer = self.try_product(expected, product).await;
        self.steps.ok(answer)
    }

    pub(super) async fn sku(&mut self, expected: Option<u64>, sku: Sku) -> Result<Versioned<Sku>, Failure> {
        let answer = self.try_sku(expected, sku).await;
        self.steps.ok(answer)
    }

    pub(super) async fn activity(
        &mut self,
        expected: Option<u64>,
        activity: Activity,
    ) -> Result<Versioned<Activity>, Failure> {
        let answer = self.try_activity(expected, activity).await;
        self.steps.ok(answer)
    }

    pub(super) async fn record(&mut self, event: &str, change: Change) -> Result<bool, Failure> {
        self.steps.step(format!("record event {event:?}"));
        self.steps.ok(self.catalogue.record(&name(event), change, &by()).await)
    }

    pub(super) async fn switch(&mut self, on: bool) -> Result<Versioned<KillSwitch>, Failure> {
        self.steps.step(format!("turn the kill switch {}", if on { "on" } else { "off" }));
        self.steps.ok(self.catalogue.put_kill_switch(on, &by()).await)
    }

    // What is stored.

    pub(super) async fn rows(&self, after: u64) -> Result<Vec<AuditRow>, Failure> {
        self.steps.ok(self.catalogue.audit(after, 1_000).await)
    }

    /// The numbers of products, SKUs, activities and audit rows.
    pub(super) async fn sizes(&self) -> Result<[usize; 4], Failure> {
        Ok([
            self.steps.ok(self.catalogue.products(None, 1_000).await)?.len(),
            self.steps.ok(self.catalogue.skus(None, 1_000).await)?.len(),
            self.steps.ok(self.catalogue.activities(None, 1_000).await)?.len(),
            self.rows(0).await?.len(),
        ])
    }

    // Checks.

    /// Fails unless exactly these parts of the write were refused. Each begins with item, field and as
    /// much of the reason as matters.
    pub(super) fn is_refused<T: Debug>(&self, parts: &[&str], answer: Result<T, CatalogueError>) -> Check {
        let mut parts = parts.to_vec();
        parts.sort_unstable();
        let is_refused = match &answer {
            Err(CatalogueError::Refused(refusals)) => {
                let mut refusals: Vec<_> = refusals.iter().map(ToString::to_string).collect();
                refusals.sort_unstable();
                refusals.len() == parts.len()
                    && refusals.iter().zip(&parts).all(|(refusal, part)| refusal.starts_with(part))
            }
            _ => false,
        };
        self.steps.holds(&format!("`Refused`: {parts:?}"), is_refused, answer)
    }

    pub(super) fn is_conflict<T: Debug>(
        &self,
        item: Item,
        versions: (Option<u64>, u64),
        answer: Result<T, CatalogueError>,
    ) -> Check {
        let is_conflict = match &answer {
            Err(CatalogueError::Conflict { item: named, expected, found }) => {
                (*named, (*expected, *found)) == (item, versions)
            }
            _ => false,
        };
        let (expected, found) = versions;
        self.steps.holds(
            &format!("`Conflict` of {item}, expected {expected:?}, found {found}"),
            is_conflict,
            answer,
        )
    }

    pub(super) fn is_not_found<T: Debug>(&self, item: Item, answer: Result<T, CatalogueError>) -> Check {
        let is_not_found = matches!(&answer, Err(CatalogueError::NotFound(named)) if *named == item);
        self.steps.holds(&format!("`NotFound` of {item}"), is_not_found, answer)
    }

    /// Fails unless the trail is intact and has this many rows.
    pub(super) async fn is_intact(&self, rows: usize) -> Check {
        let check = self.steps.ok(self.catalogue.verify_audit().await)?;
        self.steps.same("the number of verified rows", rows as u64, check.rows)?;
        self.steps.same("the first altered row", None, check.broken)
    }
}
