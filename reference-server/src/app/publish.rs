//! Publishes the whole catalogue to the ledger and to the storefront.
//!
//! This runs at start-up and after an import. A change of a single activity or product takes
//! another path: the service applies it to the ledger, and
//! [`Storefront::refresh`](crate::storefront::Storefront::refresh) shows it to buyers.

use flashsale_core::domain::Attribution;

use super::{App, PublishError};

impl App {
    /// Updates ledger and storefront from the catalogue and renders products on sale. Idempotent.
    ///
    /// # Errors
    /// [`PublishError`]; call it again.
    pub async fn publish(&self, by: &Attribution) -> Result<(), PublishError> {
        self.operations.apply_all(by).await?;
        self.storefront.refresh().await?;
        // A product that could not be rendered now is rendered on its first request.
        let _ = self.storefront.warm().await;
        Ok(())
    }
}
