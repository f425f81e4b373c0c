//! Products, SKUs and activities as operators define them, and the audit trail of changes.
//!
//! The catalogue is small and changes rarely; servers read it into memory. Stock, orders and money
//! belong to the ledger.
//!
//! Implementors use the trait [`Catalogue`], share the [`rules`] on what may change when, and pass the
//! suite `conformance::run_catalogue`.
//! [`EmbeddedCatalogue`](crate::embedded::EmbeddedCatalogue) needs no other software.

mod audit;
mod error;
mod import;
mod item;
mod kill_switch;
pub mod rules;

use async_trait::async_trait;
pub use audit::{AuditBreak, AuditCheck, AuditHash, AuditRow, Change};

pub use error::{CatalogueError, Refusal};
pub use import::{Counts, ImportReport, ImportSet, ImportedActivity};
pub use item::Item;
pub use kill_switch::KillSwitch;
use serde::{Deserialize, Serialize};

use crate::domain::{Activity, ActivityId, Attribution, Name, Product, ProductId, Sku, SkuId};

/// The maximum number of values per page; a larger `limit` is reduced to it.
pub const MAX_PAGE: usize = 1_000;

/// A value with its version in the catalogue: 1 when created, increased by 1 with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// The version.
    pub version: u64,
    /// The value.
    pub value: T,
}

/// Stores products, SKUs, activities and the audit trail.
///
/// # Contract
///
/// - **Atomic.** A method is one business step. A write and its audit rows are stored entirely or
///   not at all.
/// - **Optimistic versions.** A `put_…` with `expected: None` creates; `Some(version)` replaces
///   exactly that version. If two writers read the same one, one gets [`CatalogueError::Conflict`].
/// - **No-op writes are skipped.** A write that changes nothing creates neither a version nor an
///   audit row, so repeating a call after an unknown outcome is safe: an import does nothing, and a
///   `put_…` is answered as before or with a conflict that shows the newer version.
/// - **References hold.** After every write, an SKU's product and an offer's SKU exist, and an
///   offer has its SKU's currency. Nothing is deleted.
/// - **Rules of change** are in [`rules`].
/// - **Chained.** Each audit row holds the hash of its predecessor, and the last hash is stored;
///   see [`verify_audit`](Catalogue::verify_audit).
/// - **Order.** Lists are sorted by id; the audit trail is sorted by sequence, without gaps.
/// - **Cancellation.** Dropping a future leaves a write stored entirely or not at all.
/// - **Time** of audit rows comes from the implementation's one clock and never goes back.
#[async_trait]
pub trait Catalogue: Send + Sync + std::fmt::Debug {
    /// Imports a set: creates new items, updates changed ones and leaves the rest alone.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] with every refused part (at most [`Refusal::MAX_REPORTED`]);
    /// storage errors.
    async fn import(&self, set: &ImportSet, by: &Attribution) -> Result<ImportReport, CatalogueError>;

    /// Returns a product, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn product(&self, id: ProductId) -> Result<Option<Versioned<Product>>, CatalogueError>;

    /// Returns up to `limit` products with ids above `after`.
    ///
    /// # Errors
    /// Storage errors.
    async fn products(
        &self,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Product>>, CatalogueError>;

    /// Creates or replaces a product.
    ///
    /// # Errors
    /// Not found, conflict; storage errors.
    async fn put_product(
        &self,
        expected: Option<u64>,
        product: Product,
        by: &Attribution,
    ) -> Result<Versioned<Product>, CatalogueError>;

    /// Returns an SKU, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn sku(&self, id: SkuId) -> Result<Option<Versioned<Sku>>, CatalogueError>;

    /// Returns up to `limit` SKUs with ids above `after`.
    ///
    /// # Errors
    /// Storage errors.
    async fn skus(&self, after: Option<SkuId>, limit: usize) -> Result<Vec<Versioned<Sku>>, CatalogueError>;

    /// Returns up to `limit` SKUs of a product, if known, with ids above `after`.
    ///
    /// # Errors
    /// Storage errors.
    async fn skus_of(
        &self,
        product: ProductId,
        after: Option<SkuId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Sku>>, CatalogueError>;

    /// Creates or replaces an SKU.
    ///
    /// # Errors
    /// Not found, conflict, refused (its product or currency); storage errors.
    async fn put_sku(
        &self,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, CatalogueError>;

    /// Returns an activity with its offers, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn activity(&self, id: ActivityId) -> Result<Option<Versioned<Activity>>, CatalogueError>;

    /// Returns up to `limit` activities, in any status, with ids above `after`.
    ///
    /// # Errors
    /// Storage errors.
    async fn activities(
        &self,
        after: Option<ActivityId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Activity>>, CatalogueError>;

    /// Creates a draft, or replaces an activity's content, status or both.
    ///
    /// # Errors
    /// Not found, conflict, refused ([`Activity::check`], SKUs, [`rules::edit`]); storage errors.
    async fn put_activity(
        &self,
        expected: Option<u64>,
        activity: Activity,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, CatalogueError>;

    /// Adds an audit row for a change made elsewhere, such as an adjustment reported by a ledger's
    /// outbox. Returns `false` if `event` already has a row.
    ///
    /// # Errors
    /// Storage errors.
    async fn record(&self, event: &Name, change: Change, by: &Attribution) -> Result<bool, CatalogueError>;

    /// Returns up to `limit` audit rows with sequences above `after`; 0 starts at the first.
    ///
    /// # Errors
    /// Storage errors; [`CatalogueError::Damaged`] if a row cannot be read.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, CatalogueError>;

    /// Verifies the whole audit trail; reports the first row that was changed, removed or inserted.
    ///
    /// # Errors
    /// Storage errors. A broken trail is a result, not an error.
    async fn verify_audit(&self) -> Result<AuditCheck, CatalogueError>;

    /// Returns the state of the kill switch; `None` means that it was never used and is off.
    ///
    /// # Errors
    /// Storage errors.
    async fn kill_switch(&self) -> Result<Option<Versioned<KillSwitch>>, CatalogueError>;

    /// Turns the kill switch on or off. Each change has a higher version, so the highest version
    /// wins.
    ///
    /// # Errors
    /// Storage errors.
    async fn put_kill_switch(
        &self,
        on: bool,
        by: &Attribution,
    ) -> Result<Versioned<KillSwitch>, CatalogueError>;
}
