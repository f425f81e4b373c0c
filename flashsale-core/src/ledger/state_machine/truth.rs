//! The truth's side of two tiers: persisting entries, taking epochs, handing out content.

use super::{activity::ActivityState, batch::Batch, journal_record::Record, machine::StateMachine};
use crate::{
    domain::{ActivityId, OrderKey, OrderStatus, Strategy},
    ledger::{
        Adjustment, BatchId, Chunk, Entry, Epoch, Event, Lane, LedgerError, NextEpoch, OrderChange,
        PersistMode, Placed, Position, RefusalReason, Verdict,
    },
};

impl ActivityState {
    pub(super) fn take_epoch(&mut self, epoch: Epoch, batch: BatchId) {
        self.lanes[0].epoch = epoch;
        for position in &mut self.persisted {
            *position = Position { epoch, sequence: 1, batch };
        }
    }
}

impl StateMachine {
    /// Persists or refuses entries of a gate's outbox.
    ///
    /// # Errors
    /// See [`persist`](crate::ledger::LedgerCalls::persist).
    pub fn persist(
        &mut self,
        batch: Batch,
        lane: Lane,
        mode: PersistMode,
        entries: &[Entry],
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.deciding("which entries are persisted")?;
        let epoch = self.epoch(lane.activity)?;
        let position = self.position(lane)?;
        let mut moved = position;
        if let PersistMode::After(after) = mode {
            let follows = (position.sequence + 1..)
                .zip(entries)
                .all(|(next, entry)| entry.position.sequence == next && entry.position.epoch == epoch);
            let moved_on = after != position && !mutant!("position-not-compared");
            if moved_on || !follows {
                return Err(LedgerError::Moved { epoch, position });
            }
            if !mutant!("position-not-moved") {
                moved = entries.last().map_or(position, |entry| entry.position);
            }
        }
        let activity = lane.activity;
        self.lane_mut(Lane::first(activity))?.tick(batch.now);
        let mut verdicts = Vec::with_capacity(entries.len());
        for entry in entries {
            verdicts.push(match &entry.event {
                Event::Order { id, user, change: OrderChange::Placed(placed) } => {
                    let key = OrderKey { activity, user: *user, id: *id };
                    self.persist_order(batch, entry.position.epoch, key, *placed)?
                }
                Event::Adjusted { id, sku, delta, by } => {
                    // A salvage may contain adjustments that were already refused, and reported as
                    // such.
                    let judged = mode == PersistMode::Salvage
                        && entry.position.epoch == position.epoch
                        && entry.position.sequence <= position.sequence;
                    let stale = judged || entry.position.epoch < epoch;
                    let (id, by) = (id.clone(), by.clone());
                    let adjustment = Adjustment { activity, sku: *sku, id, delta: *delta, by };
                    self.persist_adjustment(batch, stale, &adjustment)?
                }
                _ => Verdict::Persisted,
            });
        }
        let sale = self.sales.get_mut(&lane.activity).ok_or(LedgerError::NotOpen)?;
        sale.persisted[usize::from(lane.bucket)] = moved;
        self.journal.push(&Record::Persisted(lane.activity, lane.bucket, 0, moved));
        Ok(verdicts)
    }

    fn persist_order(
        &mut self,
        batch: Batch,
        epoch: Epoch,
        key: OrderKey,
        mut placed: Placed,
    ) -> Result<Verdict, LedgerError> {
        let OrderKey { activity, user, id } = key;
        let lane = Lane::first(activity);
        let current = self.epoch(activity)?;
        let state = self.lane(lane)?;
        let known = if mutant!("owner-not-compared") {
            state.orders.with_id(id).next()
        } else {
            state.owned(user, id)
        };
        if let Some(row) = known {
            return Ok(match state.orders.row(row).status {
                OrderStatus::Refused => Verdict::Refused(RefusalReason::Before),
                _ => Verdict::Persisted,
            });
        }
        let Some(offer) = state.terms.index(placed.sku) else {
            return Ok(Verdict::Refused(RefusalReason::UnknownOffer));
        };
        let offer = u32::try_from(offer).unwrap_or(u32::MAX);
        let terms = &state.terms.offers()[offer as usize];
        placed.amount = terms.price().times(placed.quantity.value()).unwrap_or(placed.amount);
        placed.deadline = state.hold_from(state.last, placed.sku);
        let known = placed.idempotency;
        let units = state.units[offer as usize].available;
        let refusal = if epoch < current && !mutant!("stale-epoch-persisted") {
            Some(RefusalReason::StaleEpoch)
        } else if known.is_some_and(|known| state.orders.by_key(user, known.key).is_some()) {
            Some(RefusalReason::KeyTaken)
        } else if known.is_some_and(|known| state.orders.by_nonce(user, known.nonce).is_some()) {
            Some(RefusalReason::TicketUsed)
        } else if state.exceeded(user, placed.subjects, offer, placed.quantity.value()).is_some() {
            Some(RefusalReason::LimitReached)
        } else if (terms.strategy() != Strategy::PayTime || terms.price().amount() == 0)
            && units < i64::from(placed.quantity.value())
        {
            Some(RefusalReason::SoldOut)
        } else {
            None
        };
        let change = match refusal {
            None => self.placing(placed),
            Some(_) => OrderChange::Refused(Placed { deadline: None, ..placed }),
        };
        self.commit(lane, batch, &[Event::Order { id, user, change }])?;
        Ok(refusal.map_or(Verdict::Persisted, Verdict::Refused))
    }

    fn persist_adjustment(
        &mut self,
        batch: Batch,
        stale: bool,
        adjustment: &Adjustment,
    ) -> Result<Verdict, LedgerError> {
        let Adjustment { activity, sku, id, delta, by } = adjustment;
        let lane = Lane::first(*activity);
        let state = self.lane(lane)?;
        match state.adjustments.get(id) {
            Some(known) if *known == (*sku, *delta) => return Ok(Verdict::Persisted),
            // The gate will take the one in force when it follows.
            Some(_) => return Ok(Verdict::Refused(RefusalReason::KeyTaken)),
            None => {}
        }
        if stale {
            return Ok(Verdict::Refused(RefusalReason::StaleEpoch));
        }
        let Ok(index) = state.index(*sku) else {
            return Ok(Verdict::Refused(RefusalReason::UnknownOffer));
        };
        if state.units[index as usize].available + delta < 0 {
            self.commit(lane, batch, &[Event::AdjustmentRefused { id: id.clone(), sku: *sku }])?;
            return Ok(Verdict::Refused(RefusalReason::SoldOut));
        }
        let event = Event::Adjusted { id: id.clone(), sku: *sku, delta: *delta, by: by.clone() };
        self.commit(lane, batch, &[event])?;
        Ok(Verdict::Persisted)
    }

    /// The position of the last persisted entry of a gate's lane.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn position(&self, lane: Lane) -> Result<Position, LedgerError> {
        let sale = self.sale(lane.activity)?;
        sale.persisted.get(usize::from(lane.bucket)).copied().ok_or(LedgerError::NotOpen)
    }

    /// The current epoch of an activity.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        Ok(self.sale(activity)?.lanes[0].epoch)
    }

    /// Takes the next epoch.
    ///
    /// # Errors
    /// See [`next_epoch`](crate::ledger::LedgerCalls::next_epoch).
    pub fn next_epoch(
        &mut self,
        batch: Batch,
        activity: ActivityId,
        expected: Epoch,
    ) -> Result<NextEpoch, LedgerError> {
        self.deciding("epochs")?;
        let lane = Lane::first(activity);
        let position = self.position(lane)?;
        let current = self.epoch(activity)?;
        if current != expected {
            return Err(LedgerError::Moved { epoch: current, position });
        }
        let epoch = expected.next();
        let sale = self.sales.get_mut(&activity).ok_or(LedgerError::NotOpen)?;
        sale.take_epoch(epoch, batch.id);
        self.journal.push(&Record::EpochTaken(activity, epoch, batch.id));
        self.commit(lane, batch, &[Event::EpochTaken])?;
        Ok(NextEpoch { epoch, batch: batch.id })
    }

    /// One part of an activity's content: up to `limit` orders after the given one.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderKey>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        let state = self.lane(Lane::first(activity))?;
        let known = after.and_then(|after| state.owned(after.user, after.id));
        let skipped = known.map_or(0, |row| row as usize + 1);
        let orders: Vec<_> =
            state.orders.from(skipped).take(limit.max(1)).map(|(row, _)| state.order(row)).collect();
        let more = skipped + orders.len() < state.orders.len();
        Ok(Chunk {
            position: state.head,
            after: after.map(|after| after.id),
            terms: std::sync::Arc::clone(&state.base),
            changes: state
                .changes
                .iter()
                .map(|(id, (change, by))| (*id, change.clone(), by.clone()))
                .collect(),
            adjustments: state
                .adjustments
                .iter()
                .map(|(id, (sku, delta))| (id.clone(), *sku, *delta))
                .collect(),
            next: orders.last().filter(|_| more).map(|order| order.key.id),
            orders,
        })
    }
}
