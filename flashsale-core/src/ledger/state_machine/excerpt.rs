//! Excerpts: a state machine that knows a part of one lane, read from a store of rows.
//!
//! It decides with the same code as one that knows everything. [`StateMachine::needs`] names the rows
//! that a command touches, so what an excerpt lacks is never looked at. After the step,
//! [`StateMachine::changes`] compares each row with what was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    activity::ActivityState,
    batch::Batch,
    lane::LaneState,
    limit_counters::{Counter, WHOLE_ACTIVITY},
    loading::Loading,
    machine::StateMachine,
    orders::{self, RowId},
    prepared::Prepared,
    units::Units,
};
use crate::{
    domain::{Attribution, Capture, Order, OrderId, Per, SkuId, Subject, Subjects, Timestamp, UserId},
    ledger::{
        AdjustmentId, Bucket, Change, ChangeId, Chunk, Consumer, Entry, Epoch, Lane, LedgerError, LedgerRole,
        Opened, Position, StepId, Terms, Transfer,
        rows::{Changes, Excerpt, Needs, OrderRow, RowKey},
        wire::{self, Wire},
    },
};

/// The row [`RowKey::Head`].
#[derive(Debug, Serialize, Deserialize)]
struct LaneHead {
    epoch: Epoch,
    closed_to: Epoch,
    loading: Option<Loading>,
    /// How many orders were placed in the lane: the number of the last one.
    orders: u64,
    last: Timestamp,
    position: Position,
    followed: Position,
    version: u64,
    steps: BTreeSet<StepId>,
    counted: BTreeSet<(Subject, Per)>,
    transit: Vec<Transfer>,
    sent: BTreeMap<Bucket, u64>,
    received: BTreeMap<Bucket, u64>,
    consumers: Vec<(Consumer, u64)>,
    /// At a truth only.
    persisted: Vec<Position>,
}

/// The row [`RowKey::Terms`].
#[derive(Debug, Serialize, Deserialize)]
struct LaneTerms {
    base: Arc<Terms>,
    changes: Vec<(ChangeId, Change, Attribution)>,
}

/// The row [`RowKey::Adjustment`].
#[derive(Debug, Serialize, Deserialize)]
struct AdjustmentInForce(SkuId, i64);

/// The row [`RowKey::Payment`].
#[derive(Debug, Serialize, Deserialize)]
struct PaymentOwner(UserId, OrderId);

/// The row [`RowKey::Kept`].
#[derive(Debug, Serialize, Deserialize)]
struct KeptCaptures(Vec<Capture>);

impl Wire for LaneHead {
    const KIND: &str = "the head of a lane";
    const VERSION: u8 = 2;
}

impl Wire for LaneTerms {
    const KIND: &str = "the terms of a lane";
    const VERSION: u8 = 1;
}

impl Wire for AdjustmentInForce {
    const KIND: &str = "an adjustment";
    const VERSION: u8 = 1;
}

impl Wire for PaymentOwner {
    const KIND: &str = "the owner of a payment";
    const VERSION: u8 = 1;
}

impl Wire for KeptCaptures {
    const KIND: &str = "kept captures";
    const VERSION: u8 = 1;
}

/// The consumer that collects the entries of the step. It is in no store.
fn collector() -> Consumer {
    Consumer::new("(this step)")
}

fn misfit(what: impl ToString) -> LedgerError {
    LedgerError::Stopped(what.to_string().into())
}

impl StateMachine {
    /// A state machine that knows one lane, as far as it was read. It is empty if the lane is not there.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] for rows that cannot be read.
    pub fn of_excerpt(role: LedgerRole, lane: Lane, excerpt: &Excerpt) -> Result<Self, LedgerError> {
        let mut machine = Self::new(role);
        let (head, terms) = match (excerpt.rows.get(&RowKey::Head), excerpt.rows.get(&RowKey::Terms)) {
            (Some(head), Some(terms)) => (wire::decode::<LaneHead>(head)?, wire::decode::<LaneTerms>(terms)?),
            (None, None) => return Ok(machine),
            (None, Some(_)) => return Err(misfit("the head of a lane is missing")),
            (Some(_), None) => return Err(misfit("the terms of a lane are missing")),
        };
        let mut state = LaneState::new(lane, role, Arc::clone(&terms.base));
        state.changes = terms.changes.into_iter().map(|(id, change, by)| (id, (change, by))).collect();
        state.renew_terms().map_err(misfit)?;
        state.counters.count_also(head.counted);
        state.units.fill(Units::default());
        (state.epoch, state.closed_to, state.loading) = (head.epoch, head.closed_to, head.loading);
        state.last = head.last;
        state.head = head.position;
        state.followed = head.followed;
        state.steps = head.steps;
        state.transit =
            head.transit.into_iter().map(|transfer| ((transfer.to, transfer.number), transfer)).collect();
        (state.sent, state.received) = (head.sent, head.received);
        machine.consumers = head.consumers.iter().map(|(consumer, _)| consumer.clone()).collect();
        state.outbox.acknowledged = head.consumers;
        state.outbox.acknowledged.push((collector(), head.position.sequence));
        if let Some(entry) = &excerpt.entry {
            state.outbox.entries.push_back(wire::decode::<Entry>(entry)?);
        }
        state.admit_orders(excerpt)?;
        for (key, value) in &excerpt.rows {
            state.admit_row(key, value)?;
        }
        state.version = head.version;
        let mut sale = ActivityState::of(&terms.base, vec![state], &[]);
        if role == LedgerRole::Truth {
            sale.persisted = head.persisted;
        }
        machine.sales.insert(lane.activity, sale);
        Ok(machine)
    }

    /// Adds the next lane of the same activity, for queries over all of them.
    pub fn join(&mut self, next: Self) {
        for (activity, more) in next.sales {
            match self.sales.get_mut(&activity) {
                Some(sale) => sale.lanes.extend(more.lanes),
                None => drop(self.sales.insert(activity, more)),
            }
        }
    }

    /// Opens one lane of an activity in an excerpt that is empty or has just that lane.
    ///
    /// # Errors
    /// See [`open`](crate::ledger::LedgerCalls::open).
    pub fn open_lane(
        &mut self,
        batch: Batch,
        terms: &Arc<Terms>,
        bucket: Bucket,
        consumers: Vec<Consumer>,
    ) -> Result<Opened, LedgerError> {
        if let Some(opened) = self.opened(terms)? {
            return Ok(opened);
        }
        self.consumers = consumers;
        self.consumers.push(collector());
        let lane = Lane { activity: terms.activity(), bucket };
        let lanes = vec![LaneState::new(lane, self.role, Arc::clone(terms))];
        self.open_prepared(batch, Prepared { terms: Arc::clone(terms), lanes })
    }

    /// Loads a part of a truth's content into a lane of a gate, in an excerpt that is empty or has just
    /// that lane.
    ///
    /// # Errors
    /// See [`load`](crate::ledger::LedgerCalls::load).
    pub fn load_lane(
        &mut self,
        lane: Lane,
        epoch: Epoch,
        chunk: &Chunk,
        mut consumers: Vec<Consumer>,
    ) -> Result<(), LedgerError> {
        consumers.push(collector());
        let sale = self.sales.entry(lane.activity).or_insert_with(|| {
            let state = LaneState::new(lane, LedgerRole::Gate, Arc::clone(&chunk.terms));
            ActivityState::of(&chunk.terms, vec![state], &[])
        });
        let state = sale.lane_mut(lane.bucket).ok_or(LedgerError::NotOpen)?;
        let is_new = state.load(epoch, chunk, &consumers)?;
        self.is_replaced = is_new && chunk.after.is_none();
        Ok(())
    }

    /// All rows of a lane that this excerpt knows.
    fn everything(&self, lane: Lane) -> Needs {
        let Ok(state) = self.lane(lane) else { return Needs::default() };
        let mut keys = BTreeSet::from([RowKey::Head, RowKey::Terms]);
        keys.extend(state.terms.offers().iter().map(|offer| RowKey::Units(offer.sku())));
        keys.extend(state.adjustments.keys().cloned().map(RowKey::Adjustment));
        for (_, row) in state.orders.iter() {
            keys.extend(row.payments().iter().map(|payment| RowKey::Payment(payment.id)));
        }
        let buyers = state.orders.iter().map(|(_, row)| row.user).collect();
        Needs { keys, buyers, all_buyers: true, ..Needs::default() }
    }

    /// The counters of devices and addresses in which the known orders of a lane count.
    pub fn counters_of_orders(&self, lane: Lane) -> BTreeSet<RowKey> {
        let Ok(state) = self.lane(lane) else { return BTreeSet::new() };
        let sku = |offer: u32| state.terms.offers()[offer as usize].sku();
        let orders = state.orders.iter();
        orders.flat_map(|(_, row)| state.counter_keys(sku(row.offer), row.subjects())).collect()
    }

    /// Reads the rows of adjustments.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] for rows that cannot be read.
    pub fn adjustments_of(
        rows: &[(AdjustmentId, Vec<u8>)],
    ) -> Result<Vec<(AdjustmentId, SkuId, i64)>, LedgerError> {
        let read = |(id, value): &(AdjustmentId, Vec<u8>)| {
            let AdjustmentInForce(sku, delta) = wire::decode(value)?;
            Ok((id.clone(), sku, delta))
        };
        rows.iter().map(read).collect()
    }

    /// What a step has changed in its lane. `needs` and `excerpt` are what was read for it.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] if the step touched what was not read, which is a bug in `needs`.
    pub fn changes(&self, lane: Lane, needs: &Needs, excerpt: &Excerpt) -> Result<Changes, LedgerError> {
        if !self.is_replaced {
            return self.changes_since(lane, needs, excerpt);
        }
        let nothing = Excerpt { version: excerpt.version, ..Excerpt::default() };
        let changes = self.changes_since(lane, &self.everything(lane), &nothing)?;
        Ok(Changes { clear: true, ..changes })
    }

    fn changes_since(&self, lane: Lane, needs: &Needs, excerpt: &Excerpt) -> Result<Changes, LedgerError> {
        let mut changes = Changes { version: excerpt.version, ..Changes::default() };
        let Ok(state) = self.lane(lane) else { return Ok(changes) };
        let sale = self.sale(lane.activity)?;
        let before =
            excerpt.rows.get(&RowKey::Head).map(|head| wire::decode::<LaneHead>(head)).transpose()?;
        let began_at = before.as_ref().map_or(0, |head| head.position.sequence);
        let entries: Vec<_> = state.outbox.from(began_at + 1).collect();
        let buyers: BTreeSet<_> = needs.buyers.iter().chain(excerpt.orders.keys()).copied().collect();
        let mut known: Vec<_> = excerpt.orders.values().flatten().collect();
        known.sort_by_key(|row| row.number);
        let mut known = known.into_iter();
        let mut orders = before.as_ref().map_or(0, |head| head.orders);
        // The orders that were read are the first ones, in the order of their numbers.
        for (row, orders::OrderRow { user, .. }) in state.orders.iter() {
            if !buyers.contains(user) {
                return Err(misfit("a bug of the ledger: a step changed orders that it had not read"));
            }
            let known = known.next();
            let number = known.map_or(orders + 1, |known| known.number);
            orders = orders.max(number);
            let now = state.order_row(row, number);
            if known != Some(&now) {
                changes.orders.push((*user, now));
            }
        }
        let counters = state.counters.iter().filter(|_| needs.all_buyers);
        let counters = counters.filter(|(counter, _)| counter.subject() != Subject::User);
        let counters = counters.map(|(counter, _)| state.counter_key(counter));
        for key in needs.keys.iter().cloned().chain(counters) {
            let before = excerpt.rows.get(&key);
            let now = state.row(self.role, sale, &key, orders, before);
            if now.as_ref() != before {
                changes.rows.insert(key, now);
            }
        }
        let readers: Vec<_> = state.readers().collect();
        if !readers.is_empty() {
            changes.entries =
                entries.iter().map(|entry| (entry.position.sequence, wire::encode(*entry))).collect();
        }
        if before.is_some_and(|head| head.consumers != readers) {
            let slowest = readers.iter().map(|(_, sequence)| *sequence).min();
            changes.trim = Some(slowest.unwrap_or(state.head.sequence + 1));
        }
        Ok(changes)
    }
}

impl LaneState {
    /// The consumers that a store knows.
    fn readers(&self) -> impl Iterator<Item = (Consumer, u64)> + '_ {
        let collector = collector();
        self.outbox.acknowledged.iter().filter(move |(consumer, _)| *consumer != collector).cloned()
    }

    fn order_row(&self, row: RowId, number: u64) -> OrderRow {
        let value = wire::encode(&self.order(row));
        let row = self.orders.row(row);
        OrderRow {
            number,
            due: (row.due != Timestamp::MAX).then_some(row.due),
            is_owed: row.refunds_due().next().is_some(),
            value,
        }
    }

    /// Admits orders whose units are counted already.
    fn admit_orders(&mut self, excerpt: &Excerpt) -> Result<(), LedgerError> {
        let mut rows: Vec<&OrderRow> = excerpt.orders.values().flatten().collect();
        rows.sort_by_key(|row| row.number);
        for row in rows {
            self.admit_order(&wire::decode::<Order>(&row.value)?, row.due).map_err(misfit)?;
        }
        Ok(())
    }

    fn admit_row(&mut self, key: &RowKey, value: &[u8]) -> Result<(), LedgerError> {
        match key {
            RowKey::Head | RowKey::Terms | RowKey::Consumers => {}
            RowKey::Units(sku) => {
                let index = self.index(*sku).map_err(misfit)?;
                self.units[index as usize] =
                    Units::of_bytes(value).ok_or_else(|| misfit("units are damaged"))?;
            }
            RowKey::Counter(subject, id, sku) => {
                let used = value.try_into().map_err(|_| misfit("a counter is damaged"))?;
                let offer = sku.map_or(Ok(WHOLE_ACTIVITY), |sku| self.index(sku)).map_err(misfit)?;
                self.counters.set(Counter::new(*subject, *id, offer), u32::from_le_bytes(used));
            }
            RowKey::Adjustment(id) => {
                let AdjustmentInForce(sku, delta) = wire::decode(value)?;
                self.adjustments.insert(id.clone(), (sku, delta));
            }
            RowKey::Payment(payment) => {
                let PaymentOwner(user, id) = wire::decode(value)?;
                self.orders.note_payment(*payment, (user, id));
            }
            RowKey::Kept(payment) => {
                let KeptCaptures(captures) = wire::decode(value)?;
                self.kept.insert(*payment, captures);
            }
            RowKey::Capture(digest) => self.orders.note_capture(*digest),
        }
        Ok(())
    }

    /// The present value of a row.
    fn row(
        &self,
        role: LedgerRole,
        sale: &ActivityState,
        key: &RowKey,
        orders: u64,
        before: Option<&Vec<u8>>,
    ) -> Option<Vec<u8>> {
        match key {
            RowKey::Head => Some(wire::encode(&LaneHead {
                epoch: self.epoch,
                closed_to: self.closed_to,
                loading: self.loading.clone(),
                orders,
                last: self.last,
                position: self.head,
                followed: self.followed,
                version: self.version,
                steps: self.steps.clone(),
                counted: self.counters.counted().collect(),
                transit: self.transit.values().copied().collect(),
                sent: self.sent.clone(),
                received: self.received.clone(),
                consumers: self.readers().collect(),
                persisted: if role == LedgerRole::Truth { sale.persisted.clone() } else { Vec::new() },
            })),
            RowKey::Terms => {
                let changes = self.changes.iter().map(|(id, (change, by))| (*id, change.clone(), by.clone()));
                Some(wire::encode(&LaneTerms { base: Arc::clone(&self.base), changes: changes.collect() }))
            }
            RowKey::Units(sku) => {
                let index = self.index(*sku).ok()?;
                Some(self.units[index as usize].to_bytes().to_vec())
            }
            RowKey::Counter(subject, id, sku) => {
                let offer = sku.map_or(Ok(WHOLE_ACTIVITY), |sku| self.index(sku)).ok()?;
                let used = self.counters.used(Counter::new(*subject, *id, offer));
                (used > 0).then(|| used.to_le_bytes().to_vec())
            }
            RowKey::Adjustment(id) => {
                self.adjustments.get(id).map(|(sku, delta)| wire::encode(&AdjustmentInForce(*sku, *delta)))
            }
            RowKey::Payment(payment) => {
                let (user, id) = self.orders.by_payment(*payment)?;
                Some(wire::encode(&PaymentOwner(user, id)))
            }
            RowKey::Kept(payment) => {
                self.kept.get(payment).map(|kept| wire::encode(&KeptCaptures(kept.clone())))
            }
            RowKey::Capture(digest) => self.orders.has_capture(*digest).then(Vec::new),
            RowKey::Consumers => before.cloned(),
        }
    }

    fn counter_key(&self, counter: Counter) -> RowKey {
        let sku = counter.offer().map(|offer| self.terms.offers()[offer].sku());
        RowKey::Counter(counter.subject(), counter.id(), sku)
    }

    /// The counters of devices and addresses in which an order counts.
    pub(super) fn counter_keys(&self, sku: SkuId, subjects: Subjects) -> impl Iterator<Item = RowKey> {
        let ids = [
            (Subject::Device, subjects.device.map(|id| id.0)),
            (Subject::Address, subjects.address.map(|id| id.0)),
        ];
        let counted: Vec<_> = self.counters.counted().collect();
        ids.into_iter().flat_map(move |(subject, id)| {
            let scopes = counted.clone().into_iter().filter(move |(counted, _)| *counted == subject);
            scopes.filter_map(move |(_, per)| {
                Some(RowKey::Counter(subject, id?, (per == Per::Offer).then_some(sku)))
            })
        })
    }
}

/// The rows of a capture's event and transaction.
pub(super) fn capture_keys(capture: &Capture) -> [RowKey; 2] {
    orders::capture_digests(capture).map(RowKey::Capture)
}
