//! The audit trail of what operators change in the ledger.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::Sales;
use crate::{
    catalogue::{self, Catalogue, CatalogueError},
    domain::{ActivityId, By, Invalid, Name},
    ledger::{self, ChangeId, Consumer, Event, Lane, LedgerError, OrderChange, Position},
};

/// How often the outboxes are read when nobody asks for it.
const EVERY: Duration = Duration::from_millis(500);
/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 1_000;
/// How many times that one call reads on in a lane, before it leaves the rest to the next.
const READS_OF_A_CALL: usize = 64;

/// Reads the outboxes of the ledger, and gives each change that an operator made there its row in the audit trail: an
/// adjustment, a change of terms, a refund, a cancellation.
///
/// A row is written once for its event, and an entry is acknowledged after its row is on the disk, so a crash in between
/// costs nothing.
#[derive(Debug)]
pub struct Recorder {
    sales: Arc<Sales>,
    catalogue: Arc<dyn Catalogue>,
    consumer: Consumer,
    /// The last entry of each lane that was read.
    read: Mutex<HashMap<Lane, Position>>,
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

impl Recorder {
    /// The name of the outboxes' consumer.
    pub const CONSUMER: &str = "audit";

    /// A recorder of these sales' ledger.
    pub fn new(sales: Arc<Sales>, catalogue: Arc<dyn Catalogue>) -> Self {
        Self { sales, catalogue, consumer: Consumer::new(Self::CONSUMER), read: Mutex::default() }
    }

    /// Makes the recorder known to the ledger: what happens from here on is kept for it.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn register(&self) -> Result<(), LedgerError> {
        self.sales.ledger().register(&self.consumer).await
    }

    /// Works until `stop` becomes true, for sales that are opened later too.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.record_all().await {
                tracing::warn!(%error, "an operator's change has no audit row yet");
            }
            let _ = timeout(EVERY, stop.wait_for(|stop| *stop)).await;
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
    pub(super) async fn record_lane(&self, lane: Lane) -> Result<(), RecordError> {
        let before = self.read().get(&lane).copied();
        let mut last = before;
        for _ in 0..READS_OF_A_CALL {
            let ledger = self.sales.ledger();
            let entries = ledger.events(&self.consumer, lane, last, ENTRIES_AT_ONCE).await?;
            for entry in entries.iter().filter(|entry| Some(entry.position) != last) {
                if let Some(row) = Row::of(lane.activity, &entry.event)? {
                    self.catalogue.record(&row.event, row.change, &row.by).await?;
                }
            }
            last = entries.last().map(|entry| entry.position).or(last);
            if entries.len() < ENTRIES_AT_ONCE {
                break;
            }
        }
        if let Some(last) = last.filter(|last| Some(*last) != before) {
            self.sales.ledger().ack(&self.consumer, lane, last).await?;
            self.read().insert(lane, last);
        }
        Ok(())
    }

    fn read(&self) -> std::sync::MutexGuard<'_, HashMap<Lane, Position>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an event is in the audit trail.
struct Row {
    /// The same for the same change, in whichever lane it is read.
    event: Name,
    change: catalogue::Change,
    by: By,
}

impl Row {
    /// `None` for what no operator did.
    fn of(activity: ActivityId, event: &Event) -> Result<Option<Self>, Invalid> {
        let row = |event: String, action: &str, subject: String, detail: Value, by: &By| {
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
