//! Publishing: what the catalogue calls published becomes a sale in the ledger, and a place on the shelf.

use std::{panic::resume_unwind, sync::Arc};

use flashsale_core::{catalogue::ImportReport, domain::Attribution, service::OperationError};

use crate::{
    app::App,
    import::{ImportFailure, Input},
    storefront::{
        pages::Site,
        published::{PublishedCatalogue, PublishedCatalogueError, Range},
    },
};

/// Why something could not be published. What was published before stays as it was, and publishing again goes on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The shelf could not be filled.
    #[error(transparent)]
    PublishedCatalogue(#[from] PublishedCatalogueError),
    /// The ledger did not take it.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl App {
    /// Brings ledger and shelf up to what the catalogue says, and writes out the products that are on sale then. Repeating
    /// it changes nothing, and what has not changed since the last time is not written again.
    ///
    /// # Errors
    /// [`PublishError`]; repeat it.
    pub async fn publish(self: &Arc<Self>, by: &Attribution) -> Result<(), PublishError> {
        self.fill_shelf(by).await?;
        // What could not be written now is written when somebody asks for it.
        let _ = self.warm().await;
        Ok(())
    }

    /// Brings ledger and shelf up to what the catalogue says.
    ///
    /// # Errors
    /// [`PublishError`]; repeat it.
    pub(crate) async fn fill_shelf(&self, by: &Attribution) -> Result<(), PublishError> {
        let _one_at_a_time = self.publishing.lock().await;
        let range = Range::read(&*self.catalogue).await.map_err(PublishedCatalogueError::from)?;
        let (site, before) = (self.site(), self.published.load_full());
        // Compressing large pages takes seconds, in which this thread has better to do.
        let work = tokio::task::spawn_blocking(move || {
            let published = PublishedCatalogue::fill(range, &site, Some(&before))?;
            let changed = published.changed(&before);
            Ok::<_, PublishedCatalogueError>((published, changed))
        });
        let (published, changed) = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        self.operations.apply_all(by).await?;
        self.published.store(Arc::new(published));
        // Only now, so that what is written from now on is written from this shelf.
        changed.iter().for_each(|product| self.product_documents.products().forget(product));
        Ok(())
    }

    /// Takes an import into the catalogue; [`publish`](Self::publish) it then.
    ///
    /// # Errors
    /// [`ImportFailure`].
    pub async fn import(&self, input: &Input, by: &Attribution) -> Result<ImportReport, ImportFailure> {
        let imported = input.import(&*self.catalogue, by).await;
        // Also after an error, which may hide that it was written.
        if !imported.as_ref().is_ok_and(|report| !report.changed_anything()) {
            self.product_documents.forget_all();
        }
        imported
    }

    /// What the pages of the public listener share.
    pub(crate) fn site(&self) -> Site {
        Site::own(self.sessions.is_some())
    }
}
