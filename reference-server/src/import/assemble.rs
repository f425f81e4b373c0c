//! Assembles the contents of several files into one import set.

use std::collections::HashMap;

use flashsale_core::{
    catalogue::{ImportSet, ImportedActivity, Item, rules},
    domain::{Activity, ActivityId, OfferTerms, Product, Sku},
};

use super::{ImportErrors, Input, problem::Origin};

/// The parsed contents of all files, each with its origin.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) products: Vec<(Product, Origin)>,
    pub(super) skus: Vec<(Sku, Origin)>,
    pub(super) heads: Vec<(Head, Origin)>,
    pub(super) offers: Vec<(ActivityId, OfferTerms, Origin)>,
    /// Whether no item was dropped for a fault. Otherwise missing references are not reported.
    pub(super) is_complete: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { products: vec![], skus: vec![], heads: vec![], offers: vec![], is_complete: true }
    }
}

/// An activity without its offers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) activity: Activity,
    pub(super) relative_window: bool,
}

/// Joins offers to their activities and checks rules across lines. References to items that are not
/// in the files are left to the catalogue.
pub(super) fn assemble(parts: Parts, errors: &mut ImportErrors) -> Input {
    let mut known = Known { origins: HashMap::new(), errors };
    let mut set = ImportSet::default();
    for (product, origin) in parts.products {
        if known.add(Item::Product(product.id), origin, "id") {
            set.products.push(product);
        }
    }
    let mut skus = HashMap::new();
    for (sku, origin) in parts.skus {
        if known.add(Item::Sku(sku.id), origin, "id") {
            skus.insert(sku.id, sku.clone());
            set.skus.push(sku);
        }
    }
    let mut activities = HashMap::new();
    for (Head { activity, relative_window }, origin) in parts.heads {
        if known.add(Item::Activity(activity.id), origin, "id") {
            activities.insert(activity.id, set.activities.len());
            set.activities.push(ImportedActivity { activity, relative_window });
        }
    }
    for (id, offer, origin) in parts.offers {
        let Some(index) = activities.get(&id) else {
            if parts.is_complete {
                let reason = format!("activity {id} is in no file; import it together with its offers");
                known.errors.push(origin.problem("activity_id", reason));
            }
            continue;
        };
        let activity = &mut set.activities[*index].activity;
        if let Some(sku) = skus.get(&offer.sku())
            && let Err(refusal) = rules::offer_of(activity, &offer, Some(sku))
        {
            known.errors.push(origin.problem(refusal.field, refusal.reason));
        }
        if known.add(Item::Offer(id, offer.sku()), origin, "sku_id") {
            activity.offers.push(offer);
        }
    }
    if parts.is_complete {
        for ImportedActivity { activity, .. } in &set.activities {
            if let (Err(invalid), Some(origin)) =
                (activity.check(), known.origins.get(&Item::Activity(activity.id)))
            {
                known.errors.push(origin.problem(invalid.field, invalid.reason));
            }
        }
    }
    Input { set, origins: known.origins }
}

struct Known<'a> {
    origins: HashMap<Item, Origin>,
    errors: &'a mut ImportErrors,
}

impl Known<'_> {
    /// Records the origin of an item; a duplicate is a fault.
    fn add(&mut self, item: Item, origin: Origin, field: &str) -> bool {
        if let Some(first) = self.origins.get(&item) {
            let reason = format!("duplicate {item}, first at {first}");
            self.errors.push(origin.problem(field, reason));
            return false;
        }
        self.origins.insert(item, origin);
        true
    }
}
