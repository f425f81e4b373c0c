//! Sets of products, SKUs and activities that are imported at once.

use std::fmt;

use serde::Serialize;

use crate::domain::{Activity, Product, Sku};

/// The content of an import, in any order. Ids must be unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSet {
    /// The products.
    pub products: Vec<Product>,
    /// The SKUs, of products in this set or in the catalogue.
    pub skus: Vec<Sku>,
    /// The activities with all their offers, of SKUs in this set or in the catalogue.
    pub activities: Vec<ImportedActivity>,
}

/// An activity to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedActivity {
    /// The activity.
    pub activity: Activity,
    /// Whether its window was given relative to the time of the import. If so, an activity that
    /// already exists keeps its window; otherwise importing the same set again would change it.
    pub relative_window: bool,
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// The counts of products.
    pub products: Counts,
    /// The counts of SKUs.
    pub skus: Counts,
    /// The counts of activities, each with its offers.
    pub activities: Counts,
}

/// The numbers of items created, changed and left unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Did not exist before.
    pub created: u64,
    /// Got a new version.
    pub changed: u64,
    /// Existed with the same content.
    pub unchanged: u64,
}

impl ImportReport {
    /// Returns whether the import changed the catalogue.
    pub fn changed_anything(&self) -> bool {
        [self.products, self.skus, self.activities].iter().any(|counts| counts.created + counts.changed > 0)
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "products: {}; SKUs: {}; activities: {}", self.products, self.skus, self.activities)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} created, {} changed, {} unchanged", self.created, self.changed, self.unchanged)
    }
}
