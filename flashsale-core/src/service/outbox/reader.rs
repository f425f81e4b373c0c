//! Reads the outboxes of the lanes for one consumer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    ledger::{Consumer, Entry, Lane, LedgerCalls as _, LedgerError, Position},
    service::{ChangedLanes, Sales},
};

/// How often outboxes are polled.
pub(super) const EVERY: Duration = Duration::from_millis(500);
/// Entries per read.
const ENTRIES_AT_ONCE: usize = 1_000;
/// The most reads of a lane before the others have their turn.
const READS: usize = 64;

/// How many more times a lane is read after its last event was found: with two tiers, events follow
/// the change that causes them.
const LINGER: u32 = 2;

/// A consumer's progress in the outboxes.
#[derive(Debug)]
pub(super) struct Outbox {
    sales: Arc<Sales>,
    consumer: Consumer,
    /// The last acknowledged entry of each lane.
    acknowledged: Mutex<HashMap<Lane, Position>>,
    changes: Arc<ChangedLanes>,
}

/// The lanes that a consumer reads in each round: those that changed, and those that others may change.
#[derive(Debug)]
pub(super) struct Rounds {
    /// How many more times each lane is read, unless it has new events.
    left: BTreeMap<Lane, u32>,
}

/// One pass over a lane. The caller processes each batch before it asks for the next, and finally
/// calls `ack`. A dropped pass is repeated.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    outbox: &'a Outbox,
    lane: Lane,
    before: Option<Position>,
    last: Option<Position>,
    left: usize,
}

impl Outbox {
    pub(super) fn new(sales: Arc<Sales>, consumer: &str) -> Self {
        let changes = sales.follow_changes();
        Self { sales, consumer: Consumer::new(consumer), acknowledged: Mutex::default(), changes }
    }

    /// Begins with all lanes.
    pub(super) fn rounds(&self) -> Rounds {
        let all = self.sales.all();
        Rounds { left: all.iter().flat_map(|sale| sale.fronts()).map(|front| (front.lane, 1)).collect() }
    }

    /// The lanes to read in this round.
    pub(super) fn round(&self, rounds: &mut Rounds) -> Vec<Lane> {
        rounds.left.extend(self.changes.take().into_iter().map(|lane| (lane, LINGER)));
        if self.sales.ledger().bounds().is_shared {
            let now = self.sales.clock().now();
            for sale in self.sales.all().into_iter().filter(|sale| !sale.rests(now)) {
                for front in sale.fronts() {
                    rounds.left.entry(front.lane).or_insert(1);
                }
            }
        }
        // Reading one that was left would bring it back into memory, and it has nothing to read.
        rounds.left.retain(|lane, _| self.sales.sale(lane.activity).is_some());
        rounds.left.keys().copied().collect()
    }

    /// Registers the consumer with the ledger, which keeps events for it from now on.
    pub(super) async fn register(&self) -> Result<(), LedgerError> {
        self.sales.ledger().register(&self.consumer).await
    }

    pub(super) fn read(&self, lane: Lane) -> Reading<'_> {
        let before = self.acknowledged().get(&lane).copied();
        Reading { outbox: self, lane, before, last: before, left: READS }
    }

    fn acknowledged(&self) -> MutexGuard<'_, HashMap<Lane, Position>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rounds {
    /// Notes that a lane was read, and whether it may have more events.
    pub(super) fn read(&mut self, lane: Lane, more: bool) {
        if more {
            self.left.insert(lane, LINGER);
        } else if let Some(left) = self.left.get_mut(&lane) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&lane);
            }
        }
    }
}

impl Reading<'_> {
    /// Returns the next entries; `None` if there are no more for now.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Entry>>, LedgerError> {
        if self.left == 0 {
            return Ok(None);
        }
        let Outbox { sales, consumer, .. } = self.outbox;
        let mut entries = sales.ledger().events(consumer, self.lane, self.last, ENTRIES_AT_ONCE).await?;
        self.left = if entries.len() < ENTRIES_AT_ONCE { 0 } else { self.left - 1 };
        // The last entry read is returned again.
        entries.retain(|entry| Some(entry.position) != self.last);
        self.last = entries.last().map(|entry| entry.position).or(self.last);
        Ok(Some(entries).filter(|entries| !entries.is_empty()))
    }

    /// Acknowledges everything that was returned. Returns whether that was anything.
    pub(super) async fn ack(self) -> Result<bool, LedgerError> {
        let Some(last) = self.last.filter(|last| Some(*last) != self.before) else { return Ok(false) };
        let Outbox { sales, consumer, .. } = self.outbox;
        sales.ledger().ack(consumer, self.lane, last).await?;
        self.outbox.acknowledged().insert(self.lane, last);
        Ok(true)
    }
}
