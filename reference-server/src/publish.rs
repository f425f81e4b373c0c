//! Publishing: what the catalogue calls published becomes a sale in the ledger, and a place on the shelf.

use std::{panic::resume_unwind, sync::Arc};

use flashsale_core::{
    domain::{Activity, By, Invalid},
    ledger::{Change, ChangeId, LedgerError, Terms},
    snowflake::IdError,
};

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
    Ledger(#[from] LedgerError),
    /// The activity cannot be sold as it is.
    #[error(transparent)]
    Terms(#[from] Invalid),
    /// A change needs an id, and there is none.
    #[error(transparent)]
    Id(#[from] IdError),
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
        for listed in shelf.activities.values() {
            self.open_or_amend(&listed.activity, by).await?;
        }
        self.shelf.store(Arc::new(shelf));
        Ok(())
    }

    async fn open_or_amend(&self, activity: &Activity, by: &By) -> Result<(), PublishError> {
        let ledger = self.sales.ledger();
        let id = activity.id;
        let Some(terms) = ledger.terms(id).await? else {
            let terms = Terms::new(
                id,
                activity.window,
                activity.buckets.value(),
                self.timing,
                activity.offers.clone(),
            )?;
            self.sales.open(Arc::new(terms)).await?;
            tracing::info!(activity = %id, name = %activity.name, "opened for sale");
            return Ok(());
        };
        for change in changes(&terms, activity) {
            tracing::info!(activity = %id, ?change, "terms changed");
            ledger.amend(id, ChangeId(self.ids.next()?.value()), change, by.clone()).await?;
        }
        Ok(())
    }
}

/// What has to change in the ledger. Everything else of a published activity is fixed by the rules of the catalogue.
fn changes(terms: &Terms, activity: &Activity) -> Vec<Change> {
    let mut changes = Vec::new();
    if terms.window() != activity.window {
        changes.push(Change::Window(activity.window));
    }
    for offer in &activity.offers {
        if terms.offer(offer.sku()).is_some_and(|opened| opened.limits() != offer.limits()) {
            changes.push(Change::Limits { sku: offer.sku(), limits: offer.limits().to_vec() });
        }
    }
    changes
}
