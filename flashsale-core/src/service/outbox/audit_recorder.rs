//! The audit trail of what operators change in the ledger.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::reader::{self, Outbox};
use crate::{
    catalogue::{self, Catalogue, CatalogueError},
    domain::{ActivityId, Attribution, Invalid, Name},
    interruptible_sleep::pause,
    ledger::{self, ChangeId, Event, Lane, LedgerError, OrderChange},
    service::Sales,
};

/// Reads the outboxes of the ledger, and gives each change that an operator made there its row in the audit trail: an
/// adjustment, a change of terms, a refund, a cancellation.
///
/// A row is written once for its event, and an entry is acknowledged after its row is on the disk, so a crash in between
/// costs nothing.
#[derive(Debug)]
pub struct AuditRecorder {
    sales: Arc<Sales>,
    catalogue: Arc<dyn Catalogue>,
    outbox: Outbox,
}

/// Why a change has no row yet. It gets one later.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The row cannot be written.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The change has no name for its row.
    #[error("the change has no name for its audit row: {0}")]
    Name(#[from] Invalid),
}

impl AuditRecorder {
    /// The name of the outboxes' consumer.
    pub const CONSUMER: &str = "audit";

    /// A recorder of these sales' ledger.
    pub fn new(sales: Arc<Sales>, catalogue: Arc<dyn Catalogue>) -> Self {
        let outbox = Outbox::new(Arc::clone(&sales), Self::CONSUMER);
        Self { sales, catalogue, outbox }
    }

    /// Makes the recorder known to the ledger: what happens from here on is kept for it.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn register(&self) -> Result<(), LedgerError> {
        self.outbox.register().await
    }

    /// Works until `stop` becomes true, for sales that are opened later too.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.record_all().await {
                tracing::warn!(%error, "an operator's change has no audit row yet");
            }
            pause(&mut stop, reader::EVERY).await;
        }
    }

    /// Writes the rows of everything that is new in all lanes.
    ///
    /// # Errors
    /// The first lane's failure, after all were tried.
    pub async fn record_all(&self) -> Result<(), RecordError> {
        let mut result = Ok(());
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            if let Err(error) = self.record_lane(front.lane).await {
                result = Err(error);
            }
        }
        result
    }

    /// Writes the rows of what is new in a lane.
    pub(in crate::service) async fn record_lane(&self, lane: Lane) -> Result<(), RecordError> {
        let mut reading = self.outbox.read(lane);
        while let Some(entries) = reading.next().await? {
            for entry in &entries {
                if let Some(row) = Row::of(lane.activity, &entry.event)? {
                    self.catalogue.record(&row.event, row.change, &row.by).await?;
                }
            }
        }
        Ok(reading.ack().await?)
    }
}

/// What an event is in the audit trail.
struct Row {
    /// The same for the same change, in whichever lane it is read.
    event: Name,
    change: catalogue::Change,
    by: Attribution,
}

impl Row {
    /// `None` for what no operator did.
    fn of(activity: ActivityId, event: &Event) -> Result<Option<Self>, Invalid> {
        let row = |event: String, action: &str, subject: String, detail: Value, by: &Attribution| {
            let change = catalogue::Change { action: action.parse()?, subject: subject.parse()?, detail };
            Ok(Some(Self { event: event.parse()?, change, by: by.clone() }))
        };
        match event {
            Event::Amended { id, change, by } => row(
                format!("amended/{activity}/{}", id.0),
                "activity.amended",
                format!("activity/{activity}"),
                amended(*id, change),
                by,
            ),
            Event::Adjusted { id, sku, delta, by } => row(
                format!("adjusted/{activity}/{}", id.0),
                "offer.adjusted",
                format!("offer/{activity}/{sku}"),
                json!({ "adjustment_id": id, "delta": delta }),
                by,
            ),
            Event::Order { id, change: OrderChange::CancelledBy(by), .. } => row(
                format!("cancelled/{id}"),
                "order.cancelled",
                format!("order/{id}"),
                json!({ "activity_id": activity }),
                by,
            ),
            Event::Order { id, change: OrderChange::Refunded { units_returned, by }, .. } => row(
                format!("refunded/{id}"),
                "order.refunded",
                format!("order/{id}"),
                json!({ "activity_id": activity, "units_returned": units_returned }),
                by,
            ),
            _ => Ok(None),
        }
    }
}

fn amended(id: ChangeId, change: &ledger::Change) -> Value {
    let id = id.0.to_string();
    match change {
        ledger::Change::Selling(selling) => json!({ "change_id": id, "selling": selling }),
        ledger::Change::Window(window) => json!({ "change_id": id, "window": window }),
        ledger::Change::Limits { sku, limits } => {
            json!({ "change_id": id, "sku_id": sku, "limits": limits })
        }
    }
}
