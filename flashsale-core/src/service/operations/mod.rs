//! What operators do: catalogue, activities and their life, live changes, stock, orders of buyers, dead letters, the kill
//! switch.

mod activities;
mod dead_letters;
mod error;
mod ledger_sync;
#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests;

use std::sync::Arc;

pub use activities::{ActivityEdit, ActivityStep, NewActivity};
pub use error::OperationError;
use tokio::sync::Mutex;

use super::{AuditRecorder, Payments, Sales, ServiceError, advance::advance, ordering::cancel};
use crate::{
    catalogue::{Catalogue, CatalogueError, Change, KillSwitch, Versioned},
    domain::{Attribution, Invalid, OrderId, OrderKey, Product, Sku, UserId},
    ledger::{Adjusted, Adjustment, Advance, Advanced, Lane, LedgerError, Reference, Timing},
    queue::Queue,
    snowflake::Generator,
};

/// Runs a shop's sales: every change that a person at a desk makes goes through here.
///
/// What is decided about an activity is written to the catalogue first, with its audit row, and then brought to the
/// ledger. A failure in between leaves a decision that is not in force yet: the same call again, or
/// [`apply_all`](Self::apply_all) at the next start, brings it in force. What a change is called in the ledger follows from the
/// version that it has in the catalogue, so bringing it there twice changes nothing, and an older version never undoes a
/// newer one.
///
/// Adjustments, refunds and cancellations are decided by the ledger, and get their audit rows from its outbox; these are
/// written before the answer is given, or by the [`AuditRecorder`] a little later.
#[derive(Debug)]
pub struct Operations {
    catalogue: Arc<dyn Catalogue>,
    sales: Arc<Sales>,
    payments: Payments,
    ids: Arc<Generator>,
    queue: Arc<dyn Queue>,
    recorder: Arc<AuditRecorder>,
    timing: Timing,
    /// One activity at a time is brought to the ledger.
    applying: Mutex<()>,
}

impl Operations {
    /// Operations on this catalogue, these sales, and the dead letters of this queue; `timing` is that of activities that are published from here on.
    pub fn new(
        catalogue: Arc<dyn Catalogue>,
        sales: Arc<Sales>,
        payments: Payments,
        ids: Arc<Generator>,
        queue: Arc<dyn Queue>,
        timing: Timing,
    ) -> Self {
        let recorder = Arc::new(AuditRecorder::new(Arc::clone(&sales), Arc::clone(&catalogue)));
        Self { catalogue, sales, payments, ids, queue, recorder, timing, applying: Mutex::new(()) }
    }

    /// What writes the audit rows of changes in the ledger; it has to run beside this service.
    pub fn recorder(&self) -> &Arc<AuditRecorder> {
        &self.recorder
    }

    /// Takes up what is there when a process starts: sees that ledger and catalogue belong together, makes the recorder
    /// known to the ledger, and turns the kill switch as it stood. [`apply_all`](Self::apply_all) comes next.
    ///
    /// # Errors
    /// [`OperationError`], among them [`OperationError::Unlisted`] if ledger and catalogue do not belong together.
    pub async fn resume(&self) -> Result<(), OperationError> {
        self.check_listed().await?;
        self.recorder.register().await?;
        if let Some(switch) = self.catalogue.kill_switch().await? {
            self.sales.note_kill_switch(switch.version, switch.value.on);
        }
        Ok(())
    }

    // Products and SKUs.

    /// An id for something new that nobody has given one.
    ///
    /// # Errors
    /// If no id can be made at this moment.
    pub fn fresh_id<T: TryFrom<u64, Error = Invalid>>(&self) -> Result<T, OperationError> {
        Ok(T::try_from(self.ids.next()?.value())?)
    }

    /// Creates a product, or replaces the version `expected` of it.
    ///
    /// Creating what is there with the same content answers what is there.
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

    /// Creates an SKU, or replaces the version `expected` of it; as [`put_product`](Self::put_product).
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

    /// Adds units to an offer of a published activity, or takes available ones away, once for its id.
    ///
    /// # Errors
    /// Those of [`Sales::adjust`]; repeat it with the same id.
    pub async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, OperationError> {
        let activity = adjustment.activity;
        if self.sales.sale(activity).is_none() {
            return Ok(Adjusted::UnknownOffer);
        }
        let outcome = self.sales.adjust(adjustment).await?;
        self.record(Lane::first(activity)).await;
        Ok(outcome)
    }

    // Orders of buyers.

    /// Gives an order up for its buyer. An open payment is closed at its provider first.
    ///
    /// # Errors
    /// Those of the ledger; repeat it to learn what became of it.
    pub async fn cancel(&self, order: OrderId, by: &Attribution) -> Result<Advanced, OperationError> {
        let Some(key) = self.locate(order).await? else { return Ok(Advanced::NotFound) };
        let outcome = cancel(&self.sales, &self.payments, key, Some(by.clone())).await?;
        self.record_order(key).await;
        Ok(outcome)
    }

    /// Sends the money of a paid order back; `units_returned` says whether its units can be sold again. Its limits are
    /// not given back.
    ///
    /// # Errors
    /// Those of the ledger; repeat it to learn what became of it.
    pub async fn refund(
        &self,
        order: OrderId,
        units_returned: bool,
        by: &Attribution,
    ) -> Result<Advanced, OperationError> {
        let Some(key) = self.locate(order).await? else { return Ok(Advanced::NotFound) };
        let step = Advance::Refund { order: key, units_returned, by: by.clone() };
        let outcome = advance(&self.sales, step).await?;
        self.record_order(key).await;
        Ok(outcome)
    }

    /// Notes that a buyer's name was erased, once for each buyer. Neither ledger nor catalogue keeps names; an application
    /// that does erases them itself.
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

    /// How the kill switch stands; `None` if it was never used.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub async fn kill_switch(&self) -> Result<Option<Versioned<KillSwitch>>, OperationError> {
        Ok(self.catalogue.kill_switch().await?)
    }

    /// Stops every sale at once, or lets them go on. It is in force when this answers, and after a restart.
    ///
    /// # Errors
    /// Those of the catalogue; nothing is stopped then.
    pub async fn set_kill_switch(
        &self,
        on: bool,
        by: &Attribution,
    ) -> Result<Versioned<KillSwitch>, OperationError> {
        let switch = self.catalogue.put_kill_switch(on, by).await?;
        self.sales.note_kill_switch(switch.version, switch.value.on);
        Ok(switch)
    }

    async fn locate(&self, order: OrderId) -> Result<Option<OrderKey>, LedgerError> {
        self.sales.ledger().locate(Reference::Order(order)).await
    }

    async fn record_order(&self, key: OrderKey) {
        if let Some(sale) = self.sales.sale(key.activity) {
            self.record(sale.front(key.user).lane).await;
        }
    }

    /// Writes audit rows of a lane now; what fails is done by the recorder later.
    async fn record(&self, lane: Lane) {
        if let Err(error) = self.recorder.record_lane(lane).await {
            tracing::warn!(?lane, %error, "an operator's change has no audit row yet");
        }
    }
}

/// What is there already, if it is what somebody wanted to create.
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
