//! Sets of products, SKUs and activities that are taken at once.

use std::fmt;

use serde::Serialize;

use crate::domain::{Activity, Product, Sku};

/// What an import brings. Order does not matter; no id may be there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSet {
    /// Products.
    pub products: Vec<Product>,
    /// SKUs, of these products or of ones that the catalogue has.
    pub skus: Vec<Sku>,
    /// Activities, each with all its offers, of these SKUs or of ones that the catalogue has.
    pub activities: Vec<ImportedActivity>,
}

/// An activity of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedActivity {
    /// The activity.
    pub activity: Activity,
    /// Its window was given relative to the time of the import. An activity that the catalogue has already keeps
    /// the window of its first import: else the same set would change it each time.
    pub relative_window: bool,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Of the products.
    pub products: Counts,
    /// Of the SKUs.
    pub skus: Counts,
    /// Of the activities, each with its offers.
    pub activities: Counts,
}

/// How many were created, changed, and left as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Were not there before.
    pub created: u64,
    /// Have a new version.
    pub changed: u64,
    /// Were there with the same content.
    pub unchanged: u64,
}

impl ImportReport {
    /// Whether the catalogue is another one than before.
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
