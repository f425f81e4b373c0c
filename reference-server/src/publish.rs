//! Publishing: what the catalogue calls published becomes a sale in the ledger, and a place on the shelf.

use std::{panic::resume_unwind, sync::Arc};

use flashsale_core::{domain::By, service::OperationError};

use crate::{
    app::App,
    pages::Site,
    shelf::{Range, Shelf, ShelfError},
};

/// Why something could not be published. What was published before stays as it was, and publishing again goes on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The shelf could not be filled.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The ledger did not take it.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl App {
    /// Brings ledger and shelf up to what the catalogue says. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`PublishError`]; repeat it.
    pub async fn publish(&self, by: &By) -> Result<(), PublishError> {
        let _one_at_a_time = self.publishing.lock().await;
        let range = Range::read(&*self.catalogue).await.map_err(ShelfError::from)?;
        let site = Site::own(self.sessions.is_some());
        // Compressing a large catalogue takes seconds, in which this thread has better to do.
        let work = tokio::task::spawn_blocking(move || Shelf::fill(range, &site));
        let shelf = work.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        self.operations.apply_all(by).await?;
        self.shelf.store(Arc::new(shelf));
        Ok(())
    }
}
