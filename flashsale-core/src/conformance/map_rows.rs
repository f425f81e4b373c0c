//! The reference store of rows: plain maps behind a lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use crate::{
    domain::{ActivityId, Order, OrderId, Timestamp, UserId},
    ledger::{
        AdjustmentId, Bounds, Lane, LedgerError,
        rows::{Changes, Excerpt, Needs, OrderRow, RowKey, Rows},
        wire,
    },
};

/// Lanes in maps. A commit succeeds if nobody else has written since its read.
#[derive(Debug, Default)]
pub struct MapRows(Mutex<BTreeMap<Lane, LaneRows>>);

#[derive(Clone, Debug, Default)]
struct LaneRows {
    version: u64,
    rows: HashMap<RowKey, Vec<u8>>,
    orders: BTreeMap<u64, (UserId, OrderRow)>,
    by_user: HashMap<UserId, BTreeSet<u64>>,
    due: BTreeSet<(Timestamp, u64)>,
    owed: BTreeSet<u64>,
    entries: BTreeMap<u64, Vec<u8>>,
}

impl LaneRows {
    fn of_user(&self, user: UserId) -> Vec<OrderRow> {
        let numbers = self.by_user.get(&user).into_iter().flatten();
        numbers.map(|number| self.orders[number].1.clone()).collect()
    }

    fn read(&self, needs: &Needs) -> Excerpt {
        let due = self.due.iter().take(needs.due).map(|(_, number)| self.orders[number].0);
        let mut buyers: BTreeSet<_> = needs.buyers.iter().copied().chain(due).collect();
        if needs.all_buyers {
            buyers.extend(self.by_user.keys());
        }
        Excerpt {
            version: self.version,
            rows: needs
                .keys
                .iter()
                .filter_map(|key| Some((key.clone(), self.rows.get(key)?.clone())))
                .collect(),
            orders: buyers.into_iter().map(|user| (user, self.of_user(user))).collect(),
            entry: needs.entry.and_then(|sequence| self.entries.get(&sequence).cloned()),
        }
    }

    fn write(&mut self, changes: &Changes) {
        if changes.clear && !mutant!("row-content-not-cleared") {
            *self = Self::default();
        }
        self.version = changes.next;
        for (key, value) in &changes.rows {
            match value {
                Some(value) => drop(self.rows.insert(key.clone(), value.clone())),
                None => drop(self.rows.remove(key)),
            }
        }
        for (user, row) in &changes.orders {
            if let Some((_, before)) = self.orders.insert(row.number, (*user, row.clone())) {
                before.due.map(|due| self.due.remove(&(due, row.number)));
            }
            row.due.map(|due| self.due.insert((due, row.number)));
            if row.is_owed {
                self.owed.insert(row.number)
            } else {
                self.owed.remove(&row.number)
            };
            self.by_user.entry(*user).or_default().insert(row.number);
        }
        self.entries.extend(changes.entries.iter().cloned());
        if let Some(first) = changes.trim {
            self.entries = self.entries.split_off(&first);
        }
    }
}

impl MapRows {
    /// Copies the whole content.
    pub fn copy(&self) -> Self {
        Self(Mutex::new(self.lanes().clone()))
    }

    /// Replaces some lanes by those of another store.
    pub fn replace(&self, other: &Self, is_replaced: impl Fn(Lane) -> bool) {
        let others = other.lanes().clone();
        let mut lanes = self.lanes();
        lanes.retain(|lane, _| !is_replaced(*lane));
        lanes.extend(others.into_iter().filter(|(lane, _)| is_replaced(*lane)));
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Lane, LaneRows>> {
        self.0.lock().expect("a write panicked before")
    }

    fn of<T: Default>(&self, lane: Lane, read: impl FnOnce(&LaneRows) -> T) -> T {
        self.lanes().get(&lane).map(read).unwrap_or_default()
    }
}

#[async_trait]
impl Rows for MapRows {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: 10_000, max_in_flight: 1, is_shared: true, key_retention: None }
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
        let excerpt = self.of(lane, |rows| rows.read(needs));
        // Others may write between a read and its commit. No real store takes equally long each time; nodes in
        // lockstep would let the same one lose for ever.
        for _ in 0..fastrand::u8(1..4) {
            tokio::task::yield_now().await;
        }
        Ok(excerpt)
    }

    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError> {
        let mut lanes = self.lanes();
        let rows = lanes.entry(lane).or_default();
        let is_current = rows.version == changes.version || mutant!("row-guard-dropped");
        if is_current {
            rows.write(changes);
        }
        Ok(is_current)
    }

    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError> {
        Ok(self.of(lane, |rows| {
            let later =
                rows.orders.range(after + 1..).filter(|(number, _)| !owed || rows.owed.contains(number));
            later.take(limit).map(|(_, order)| order.clone()).collect()
        }))
    }

    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        Ok(self.of(lane, |rows| {
            rows.entries.range(from..).take(limit).map(|(_, entry)| entry.clone()).collect()
        }))
    }

    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError> {
        let mut found = self.of(lane, |rows| {
            let adjustments = rows.rows.iter().filter_map(|(key, value)| match key {
                RowKey::Adjustment(id) => Some((id.clone(), value.clone())),
                _ => None,
            });
            adjustments.collect::<Vec<_>>()
        });
        found.sort();
        Ok(found)
    }

    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        Ok(Self::lanes(self).keys().copied().collect())
    }

    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError> {
        let lanes = Self::lanes(self);
        for (lane, rows) in lanes.iter().filter(|(lane, _)| activity.is_none_or(|of| lane.activity == of)) {
            for (user, row) in rows.orders.values() {
                if wire::decode::<Order>(&row.value)?.key.id == order {
                    return Ok(Some((*lane, *user)));
                }
            }
        }
        Ok(None)
    }
}
