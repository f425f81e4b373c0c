//! Products, SKUs and activities as operators write them, and the trail of who changed what.
//!
//! The catalogue holds what is decided at a desk: it is small, changes seldom, and is read into memory by whoever
//! serves it. Stock, orders and money belong to the ledger.
//!
//! [`Catalogue`] is the trait for implementors, [`EmbeddedCatalogue`](crate::embedded::EmbeddedCatalogue) the implementation that needs no other
//! software. What may change in which status is [`rules`], shared by all implementations.

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

/// The most values of one page; a larger `limit` is answered with this many.
pub const MAX_PAGE: usize = 1_000;

/// A value with the version that it has in the catalogue: 1 when it is created, one more with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// Which change made it.
    pub version: u64,
    /// The value.
    pub value: T,
}

/// Where products, SKUs, activities and the audit trail are kept.
///
/// # Contract
///
/// - **Atomic.** A method is one business step. A write happens whole, together with its audit rows, or not at all.
/// - **Optimistic versions.** A `put_…` with `expected: None` creates; with `Some(version)` it replaces that version
///   and no other. Of two writers who read the same version one gets [`CatalogueError::Conflict`].
/// - **Nothing is written for nothing.** A write that would leave the value as it is changes no version and makes no
///   audit row. A repeat after an unknown outcome is therefore safe: for an import it does nothing; for a `put_…` it
///   is answered like the first time, or with a conflict that shows the newer version.
/// - **References hold.** An SKU's product and an offer's SKU exist, and an offer has its SKU's currency, at the end
///   of every write. Nothing is deleted.
/// - **Rules of change** are those of [`rules`].
/// - **Chained.** Each audit row holds the hash of its predecessor, and the last row is noted: see
///   [`verify_audit`](Catalogue::verify_audit).
/// - **Order.** Lists are in ascending order of ids, the audit trail in order of its sequence, which has no gaps.
/// - **Dropping** a future neither undoes nor tears a write: it happens whole or not at all, and the caller does not
///   learn which.
/// - **Time** of audit rows comes from the implementation's one clock, and does not go back.
#[async_trait]
pub trait Catalogue: Send + Sync + std::fmt::Debug {
    /// Takes a whole set: creates what is not there, changes what differs, leaves the rest.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`] with every part of the set that cannot be taken (at most
    /// [`Refusal::MAX_REPORTED`]); storage errors.
    async fn import(&self, set: &ImportSet, by: &Attribution) -> Result<ImportReport, CatalogueError>;

    /// A product, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn product(&self, id: ProductId) -> Result<Option<Versioned<Product>>, CatalogueError>;

    /// Up to `limit` products with an id above `after`.
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

    /// An SKU, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn sku(&self, id: SkuId) -> Result<Option<Versioned<Sku>>, CatalogueError>;

    /// Up to `limit` SKUs with an id above `after`.
    ///
    /// # Errors
    /// Storage errors.
    async fn skus(&self, after: Option<SkuId>, limit: usize) -> Result<Vec<Versioned<Sku>>, CatalogueError>;

    /// Up to `limit` SKUs of one product with an id above `after`; empty for an unknown product.
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
    /// Not found, conflict, refused (its product, its currency); storage errors.
    async fn put_sku(
        &self,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, CatalogueError>;

    /// An activity with its offers, or `None`.
    ///
    /// # Errors
    /// Storage errors.
    async fn activity(&self, id: ActivityId) -> Result<Option<Versioned<Activity>>, CatalogueError>;

    /// Up to `limit` activities with an id above `after`, in every status.
    ///
    /// # Errors
    /// Storage errors.
    async fn activities(
        &self,
        after: Option<ActivityId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Activity>>, CatalogueError>;

    /// Creates a draft, or replaces an activity: its content, its status, or both.
    ///
    /// # Errors
    /// Not found, conflict, refused (its own check, its SKUs, [`rules::edit`]); storage errors.
    async fn put_activity(
        &self,
        expected: Option<u64>,
        activity: Activity,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, CatalogueError>;

    /// Adds an audit row about a change that was made elsewhere, once for each `event`: an adjustment that a ledger
    /// reports by its outbox, a kill switch. `false` if the event has its row already.
    ///
    /// # Errors
    /// Storage errors.
    async fn record(&self, event: &Name, change: Change, by: &Attribution) -> Result<bool, CatalogueError>;

    /// Up to `limit` audit rows with a sequence above `after`; 0 starts at the first.
    ///
    /// # Errors
    /// Storage errors; damaged if a row cannot be read.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, CatalogueError>;

    /// Reads the whole audit trail and tells the first row that was changed, removed or put there.
    ///
    /// # Errors
    /// Storage errors. A broken trail is an answer, not an error.
    async fn verify_audit(&self) -> Result<AuditCheck, CatalogueError>;

    /// How the kill switch stands; `None` if it was never used, which means off.
    ///
    /// # Errors
    /// Storage errors.
    async fn kill_switch(&self) -> Result<Option<Versioned<KillSwitch>>, CatalogueError>;

    /// Turns the kill switch on or off. Each turn has a higher version, so that of two readers who know it the one with
    /// the higher version is right.
    ///
    /// # Errors
    /// Storage errors.
    async fn put_kill_switch(
        &self,
        on: bool,
        by: &Attribution,
    ) -> Result<Versioned<KillSwitch>, CatalogueError>;
}
