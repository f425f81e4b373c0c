//! Operations for operators: catalogue, activities, stock, orders, dead letters, the kill switch.

mod activities;
mod archive;
mod dead_letters;
mod error;
mod ledger_sync;
#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests;

use std::sync::Arc;

pub use activities::{ActivityEdit, ActivityStep, NewActivity};
pub use error::OperationError;
use tokio::sync::{Mutex, Notify};

use super::{AuditRecorder, Payments, Sales, ServiceError, advance::advance, ordering::cancel};
use crate::{
    catalogue::{Catalogue, CatalogueError, Change, KillSwitch, Versioned},
    domain::{Attribution, Invalid, OrderKey, Product, RefundOrder, Sku, UserId},
    ledger::{Adjusted, Adjustment, Advance, Advanced, Lane, Timing},
    queue::Queue,
    snowflake::Generator,
};

/// Every change that an operator makes goes through here.
///
/// A decision about an activity is written to the catalogue first, with its audit row, then applied
/// to the ledger. If that fails, the decision is not in force yet: repeat the call, or call
/// [`apply_all`](Self::apply_all) at the next start. The change's id in the ledger is derived from
/// the catalogue version. So applying it twice is harmless, and a newer version always wins.
///
/// Adjustments, refunds and cancellations are decided by the ledger. Their audit rows come from its
/// outbox: normally before the call returns, else from the [`AuditRecorder`] a little later.
#[derive(Debug)]
pub struct Operations {
    catalogue: Arc<dyn Catalogue>,
    sales: Arc<Sales>,
    payments: Payments,
    ids: Arc<Generator>,
    queue: Arc<dyn Queue>,
    recorder: Arc<AuditRecorder>,
    timing: Timing,
    /// Only one activity at a time is applied to the ledger.
    applying: Mutex<()>,
    /// Tells that an activity was archived.
    archived: Notify,
}

impl Operations {
    /// Creates the service; `timing` applies to activities published from now on.
    pub fn new(
        catalogue: Arc<dyn Catalogue>,
        sales: Arc<Sales>,
        payments: Payments,
        ids: Arc<Generator>,
        queue: Arc<dyn Queue>,
        timing: Timing,
    ) -> Self {
        let recorder = Arc::new(AuditRecorder::new(Arc::clone(&sales), Arc::clone(&catalogue)));
        Self {
            catalogue,
            sales,
            payments,
            ids,
            queue,
            recorder,
            timing,
            applying: Mutex::new(()),
            archived: Notify::new(),
        }
    }

    /// Writes the audit rows of changes in the ledger. It must run alongside this service.
    pub fn recorder(&self) -> &Arc<AuditRecorder> {
        &self.recorder
    }

    /// Prepares a process at its start: checks the catalogue against the ledger, registers the
    /// recorder and restores the kill switch. Call [`apply_all`](Self::apply_all) next.
    ///
    /// # Errors
    /// [`OperationError`]; [`OperationError::Unlisted`] if the catalogue lacks an activity.
    pub async fn resume(&self) -> Result<(), OperationError> {
        self.check_listed().await?;
        self.recorder.register().await?;
        if let Some(switch) = self.catalogue.kill_switch().await? {
            self.sales.note_kill_switch(switch.version, switch.value.on);
        }
        Ok(())
    }

    // Products and SKUs.

    /// Generates an id for a new item.
    ///
    /// # Errors
    /// [`OperationError::Id`] if no id can be generated right now.
    pub fn fresh_id<T: TryFrom<u64, Error = Invalid>>(&self) -> Result<T, OperationError> {
        Ok(T::try_from(self.ids.next()?.value())?)
    }

    /// Creates a product, or replaces its version `expected`. Creating one that already exists with
    /// the same content returns it.
    ///
    /// # Errors
    /// [`OperationError::Catalogue`].
    pub async fn put_product(
        &self,
        expected: Option<u64>,
        product: Product,
        by: &Attribution,
    ) -> Result<Versioned<Product>, OperationError> {
        let id = product.id;
        let result = self.catalogue.put_product(expected, product.clone(), by).await;
        let present = match &result {
            Err(CatalogueError::Conflict { expected: None, .. }) => self.catalogue.product(id).await?,
            _ => None,
        };
        Ok(same(present, &product).map_or(result, Ok)?)
    }

    /// Creates an SKU, or replaces its version `expected`, like [`put_product`](Self::put_product).
    ///
    /// # Errors
    /// [`OperationError::Catalogue`].
    pub async fn put_sku(
        &self,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, OperationError> {
        let id = sku.id;
        let result = self.catalogue.put_sku(expected, sku.clone(), by).await;
        let present = match &result {
            Err(CatalogueError::Conflict { expected: None, .. }) => self.catalogue.sku(id).await?,
            _ => None,
        };
        Ok(same(present, &sku).map_or(result, Ok)?)
    }

    // Stock.

    /// Adds or removes available units of an offer in a published activity, once per adjustment id.
    ///
    /// # Errors
    /// Those of [`Sales::adjust`]; repeat the call with the same id.
    pub async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, OperationError> {
        let activity = adjustment.activity;
        if self.sales.sale(activity).is_none() {
            return Ok(Adjusted::UnknownOffer);
        }
        let outcome = self.sales.adjust(adjustment).await?;
        self.record(Lane::first(activity)).await;
        Ok(outcome)
    }

    // Buyers' orders.

    /// Cancels an order, after closing any open payment at its provider.
    ///
    /// # Errors
    /// Those of the ledger and the payment provider; repeat the call to learn the outcome.
    pub async fn cancel(&self, order: OrderKey, by: &Attribution) -> Result<Advanced, OperationError> {
        let outcome = cancel(&self.sales, &self.payments, order, Some(by.clone())).await?;
        self.record_order(order).await;
        Ok(outcome)
    }

    /// Refunds a paid order or a part of it, once per key. Returned units go back on sale, and
    /// purchase limits still count them.
    ///
    /// # Errors
    /// Those of the ledger; repeat the call to learn the outcome.
    pub async fn refund(
        &self,
        order: OrderKey,
        refund: RefundOrder,
        by: &Attribution,
    ) -> Result<Advanced, OperationError> {
        let outcome = advance(&self.sales, Advance::Refund { order, refund, by: by.clone() }).await?;
        self.record_order(order).await;
        Ok(outcome)
    }

    /// Records in the audit trail, once per buyer, that a buyer's name was erased. Ledger and
    /// catalogue store no names; the application that stores them must erase them.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub async fn erase_name(&self, user: UserId, by: &Attribution) -> Result<(), OperationError> {
        let change = Change {
            action: "user.name_erased".parse()?,
            subject: format!("user/{user}").parse()?,
            detail: serde_json::json!({}),
        };
        self.catalogue.record(&format!("name_erased/{user}").parse()?, change, by).await?;
        Ok(())
    }

    // The kill switch.

    /// The state of the kill switch; `None` if it was never used.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub async fn kill_switch(&self) -> Result<Option<Versioned<KillSwitch>>, OperationError> {
        Ok(self.catalogue.kill_switch().await?)
    }

    /// Stops all sales, or resumes them. In force when the call returns, and still after a restart.
    ///
    /// # Errors
    /// Those of the catalogue; then the kill switch stays as it was.
    pub async fn set_kill_switch(
        &self,
        on: bool,
        by: &Attribution,
    ) -> Result<Versioned<KillSwitch>, OperationError> {
        let switch = self.catalogue.put_kill_switch(on, by).await?;
        self.sales.note_kill_switch(switch.version, switch.value.on);
        Ok(switch)
    }

    async fn record_order(&self, key: OrderKey) {
        if let Some(sale) = self.sales.sale(key.activity) {
            self.record(sale.front(key.user).lane).await;
        }
    }

    /// Writes a lane's audit rows now; the recorder retries what fails.
    async fn record(&self, lane: Lane) {
        if let Err(error) = self.recorder.record_lane(lane).await {
            tracing::warn!(?lane, %error, "an operator's change has no audit row yet");
        }
    }
}

/// Returns the existing item if it equals the one to create.
fn same<T: PartialEq>(present: Option<Versioned<T>>, wanted: &T) -> Option<Versioned<T>> {
    present.filter(|present| present.value == *wanted)
}

impl From<ServiceError> for OperationError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Ledger(error) => Self::Ledger(error),
            ServiceError::Id(error) => Self::Id(error),
            other => Self::Service(other),
        }
    }
}
