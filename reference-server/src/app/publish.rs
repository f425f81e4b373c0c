//! Publishing everything: from the catalogue to the ledger, and from there to what buyers see.
//!
//! At the start and after an import all activities go this way. A change of one activity or product does not: the
//! service brings that one to the ledger, and [`Storefront::refresh`](crate::storefront::Storefront::refresh) shows it.

use flashsale_core::domain::Attribution;

use super::{App, PublishError};

impl App {
    /// Brings ledger and storefront up to what the catalogue says, and writes out the products that are on sale then.
    /// Repeating it changes nothing.
    ///
    /// # Errors
    /// [`PublishError`]; repeat it.
    pub async fn publish(&self, by: &Attribution) -> Result<(), PublishError> {
        self.bring_up(by).await?;
        // What could not be written now is written when somebody asks for it.
        let _ = self.storefront.warm().await;
        Ok(())
    }

    /// As [`publish`](Self::publish), but leaves the products to whoever asks for them.
    pub(super) async fn bring_up(&self, by: &Attribution) -> Result<(), PublishError> {
        self.operations.apply_all(by).await?;
        self.storefront.refresh().await?;
        Ok(())
    }
}
