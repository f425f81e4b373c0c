//! The tables of the catalogue file, and its errors.

use redb::TableDefinition;

use crate::{
    catalogue::CatalogueError,
    embedded::file::{self, StoreError},
};

/// The size of redb's page cache. A large shop's catalogue has a few MB; redb's default is 1 GiB.
pub(super) const CACHE_BYTES: usize = 16 << 20;

pub(super) type Bytes = &'static [u8];

pub(super) const PRODUCTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("products");
pub(super) const SKUS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("skus");
pub(super) const SKUS_OF_PRODUCT: TableDefinition<'_, (u64, u64), ()> =
    TableDefinition::new("skus_of_product");
pub(super) const ACTIVITIES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("activities");
/// Audit rows by sequence, as [`encode`](super::audit_chain::encode) writes them.
pub(super) const AUDIT: TableDefinition<'_, u64, Bytes> = TableDefinition::new("audit");
/// The last row of the trail, as [`Head`] writes it.
pub(super) const AUDIT_HEAD: TableDefinition<'_, (), Bytes> = TableDefinition::new("audit_head");
/// The sequence of the audit row of each event.
pub(super) const RECORDED: TableDefinition<'_, &str, u64> = TableDefinition::new("recorded");
pub(super) const KILL_SWITCH: TableDefinition<'_, (), Bytes> = TableDefinition::new("kill_switch");

pub(super) fn damaged(error: serde_json::Error) -> CatalogueError {
    CatalogueError::Damaged(error.to_string())
}

/// Maps an error that occurred before a commit: nothing was changed.
pub(super) fn storage(error: impl Into<redb::Error>) -> CatalogueError {
    file::storage(error).into()
}

impl From<StoreError> for CatalogueError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason, retry, source } => Self::Unavailable { reason, retry, source },
            StoreError::Damaged(reason) => Self::Damaged(reason),
            StoreError::Unknown(source) => Self::Unknown(source),
        }
    }
}
