//! The audit trail of operators' changes in the ledger.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::reader::{self, Outbox};
use crate::{
    catalogue::{self, Catalogue, CatalogueError},
    domain::{ActivityId, Attribution, Invalid, Name, OrderRef},
    interruptible_sleep::pause,
    ledger::{self, ChangeId, Event, Lane, LedgerError, OrderChange, StepId, TimeStep},
    service::Sales,
};

/// Writes an audit row for each change that an operator makes in the ledger: adjustments, changes
/// of terms, refunds, cancellations, and steps of the clock.
///
/// Each event gets exactly one row: rows are idempotent, and an outbox entry is acknowledged only
/// after its row is on disk.
#[derive(Debug)]
pub struct AuditRecorder {
    sales: Arc<Sales>,
    catalogue: Arc<dyn Catalogue>,
    outbox: Outbox,
}

/// Why a change has no audit row yet. It is retried.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The row cannot be written.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The change does not yield a valid row name.
    #[error("invalid name for an audit row: {0}")]
    Name(#[from] Invalid),
}

impl AuditRecorder {
    /// The consumer name in the outboxes.
    pub const CONSUMER: &str = "audit";

    /// Creates a recorder for the ledger of these sales.
    pub fn new(sales: Arc<Sales>, catalogue: Arc<dyn Catalogue>) -> Self {
        let outbox = Outbox::new(Arc::clone(&sales), Self::CONSUMER);
        Self { sales, catalogue, outbox }
    }

    /// Registers the recorder with the ledger, which keeps events for it from now on.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn register(&self) -> Result<(), LedgerError> {
        self.outbox.register().await
    }

    /// Runs until `stop` becomes true. Picks up sales opened later.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut rounds = self.outbox.rounds();
        while !*stop.borrow() {
            let mut failure = None;
            for lane in self.outbox.round(&mut rounds) {
                let read = self.record_lane(lane).await;
                rounds.read(lane, read.as_ref().map_or(true, |more| *more));
                failure = read.err().or(failure);
            }
            if let Some(error) = failure {
                tracing::warn!(%error, "an operator's change has no audit row yet");
            }
            pause(&mut stop, reader::EVERY).await;
        }
    }

    /// Writes the rows of all new events in all lanes.
    ///
    /// # Errors
    /// The last failure, after all lanes were tried.
    pub async fn record_all(&self) -> Result<(), RecordError> {
        let mut result = Ok(());
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            if let Err(error) = self.record_lane(front.lane).await {
                result = Err(error);
            }
        }
        result
    }

    /// Writes the row of a step of time, also where no lane reports it.
    pub(in crate::service) async fn record_step(&self, step: &TimeStep) -> Result<(), RecordError> {
        let row = time_stepped(step.id(), step.by_ms(), step.by())?;
        self.catalogue.record(&row.event, row.change, &row.by).await?;
        Ok(())
    }

    /// Writes the rows of a lane's new events. Returns whether it had any.
    pub(in crate::service) async fn record_lane(&self, lane: Lane) -> Result<bool, RecordError> {
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

/// The audit row of an event.
struct Row {
    /// The name of the event: the same for the same change, whichever lane it is read from.
    event: Name,
    change: catalogue::Change,
    by: Attribution,
}

impl Row {
    /// Builds the row of an event; `None` if no operator caused it.
    fn of(activity: ActivityId, event: &Event) -> Result<Option<Self>, Invalid> {
        let row = |event: String, action: &str, subject: String, detail: Value, by: &Attribution| {
            let change = catalogue::Change { action: action.parse()?, subject: subject.parse()?, detail };
            Ok(Some(Self { event: event.parse()?, change, by: by.clone() }))
        };
        let of_order = |order| format!("order/{}", OrderRef { activity, order });
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
            Event::TimeStepped { id, by_ms, by, .. } => time_stepped(*id, *by_ms, by).map(Some),
            Event::Order { id, change: OrderChange::CancelledBy(by), .. } => row(
                format!("cancelled/{id}"),
                "order.cancelled",
                of_order(*id),
                json!({ "activity_id": activity }),
                by,
            ),
            Event::Order { id, change: OrderChange::Refunded { units_returned, by }, .. } => row(
                format!("refunded/{id}"),
                "order.refunded",
                of_order(*id),
                json!({ "activity_id": activity, "units_returned": units_returned }),
                by,
            ),
            Event::Order { id, change: OrderChange::RefundOrdered { refund, by }, .. } => row(
                format!("refunded/{id}/{:032x}", refund.key.0),
                "order.refunded",
                of_order(*id),
                json!({ "activity_id": activity, "amount": refund.amount, "units_returned": refund.units }),
                by,
            ),
            _ => Ok(None),
        }
    }
}

/// The row of a step of time, which is the same in all lanes of all activities.
fn time_stepped(id: StepId, by_ms: i64, by: &Attribution) -> Result<Row, Invalid> {
    let change = catalogue::Change {
        action: "clock.stepped".parse()?,
        subject: "clock".parse()?,
        detail: json!({ "step_id": id.0.to_string(), "by_ms": by_ms }),
    };
    Ok(Row { event: format!("clock.stepped/{}", id.0).parse()?, change, by: by.clone() })
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
