//! The gate's side of two tiers: close, load, reopen, follow.

use std::sync::Arc;

use super::{CorruptState, batch::Batch, journal_record::Record, machine::StateMachine};
use crate::{
    domain::{ActivityId, Invalid, OrderStatus, Timestamp},
    ledger::{Chunk, Entry, Epoch, Event, Lane, LedgerError, LedgerRole, OrderChange, Position},
};

impl StateMachine {
    /// The epoch of the activity's content, if the activity is open.
    pub fn open_epoch(&self, activity: ActivityId) -> Option<Epoch> {
        self.sales.get(&activity).filter(|sale| !sale.closed).map(|sale| sale.epoch)
    }

    /// Stops admitting orders.
    pub fn close(&mut self, activity: ActivityId, epoch: Epoch) {
        let role = self.role;
        let Some(sale) = self.sales.get_mut(&activity).filter(|_| role == LedgerRole::Gate) else { return };
        if sale.epoch <= epoch && !sale.closed {
            sale.closed = true;
            self.journal.push(&Record::Closed(activity, epoch));
        }
    }

    /// Stages one part of the truth's content.
    ///
    /// # Errors
    /// See [`load`](crate::ledger::LedgerCalls::load).
    pub fn load(&mut self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.check_newer(activity, epoch)?;
        if self.role != LedgerRole::Gate || chunk.terms.activity() != activity {
            return Err(Invalid::new("chunk", "must be loaded by a gate, for its own activity").into());
        }
        if let Some((staged, _)) = self.staged.get(&activity)
            && *staged > epoch
        {
            return Err(LedgerError::Moved { epoch: *staged, position: Position::default() });
        }
        let (staged, chunks) = self.staged.entry(activity).or_default();
        if chunk.after.is_none() && (*staged != epoch || chunks.first().is_none_or(|first| *first != chunk)) {
            (*staged, *chunks) = (epoch, Vec::new());
        }
        if *staged == epoch && chunks.iter().any(|known| known.after == chunk.after) {
            return Ok(());
        }
        let expected = chunks.last().map(|last| last.next);
        let in_order = *staged == epoch && expected.is_none_or(|next| next.is_some() && next == chunk.after);
        if !in_order || (chunks.is_empty() && chunk.after.is_some()) {
            return Err(Invalid::new("chunk", "is not the next part of the content").into());
        }
        chunks.push(chunk.clone());
        self.journal.push(&Record::Loaded(activity, epoch, Box::new(chunk)));
        Ok(())
    }

    /// Replaces the activity's content with the staged content, and admits orders again.
    ///
    /// # Errors
    /// See [`reopen`](crate::ledger::LedgerCalls::reopen).
    pub fn reopen(&mut self, batch: Batch, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        if self.open_epoch(activity) == Some(epoch) {
            return Ok(());
        }
        self.check_newer(activity, epoch)?;
        self.rebuild(activity, epoch)?;
        self.journal.push(&Record::Reopened(activity, epoch, batch.id));
        for lane in self.lanes_of(activity) {
            self.commit(lane, batch, &[Event::Reopened])?;
        }
        Ok(())
    }

    /// Builds an activity's lanes from the staged content.
    pub(super) fn rebuild(&mut self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        let not_whole = || Invalid::new("epoch", "the content of this epoch is not fully loaded");
        let whole = self.staged.get(&activity).is_some_and(|(staged, chunks)| {
            *staged == epoch && chunks.last().is_some_and(|last| last.next.is_none())
        });
        if !whole {
            return Err(not_whole().into());
        }
        let (_, chunks) = self.staged.remove(&activity).ok_or_else(not_whole)?;
        let first = chunks.first().ok_or_else(not_whole)?;
        let mut sale = self.new_sale(&first.terms);
        self.budget.make_room(&mut sale.lanes.iter_mut().collect::<Vec<_>>());
        self.room_until = Timestamp::EPOCH;
        sale.epoch = epoch;
        if let Some(before) = self.sales.get(&activity) {
            for (lane, before) in sale.lanes.iter_mut().zip(&before.lanes) {
                lane.last = before.last;
                lane.steps.clone_from(&before.steps);
                lane.version = before.version + 1;
            }
        }
        let stop = |misfit: CorruptState| LedgerError::Stopped(misfit.to_string().into());
        for lane in &mut sale.lanes {
            lane.followed = first.position;
            for units in &mut lane.units {
                (units.share, units.available) = (0, 0);
            }
            lane.changes =
                first.changes.iter().map(|(id, change, by)| (*id, (change.clone(), by.clone()))).collect();
            lane.renew_terms().map_err(stop)?;
        }
        for order in chunks.iter().flat_map(|chunk| &chunk.orders) {
            let lane = Lane::of(activity, order.key.user, first.terms.buckets());
            sale.lanes[usize::from(lane.bucket)].insert(order).map_err(stop)?;
        }
        for (id, sku, delta) in &first.adjustments {
            let lane = &mut sale.lanes[0];
            let index = lane.index(*sku).map_err(stop)?;
            lane.units[index as usize].adjusted += delta;
            lane.adjustments.insert(id.clone(), (*sku, *delta));
        }
        divide(&mut sale.lanes, &first.terms);
        self.sales.insert(activity, sale);
        Ok(())
    }

    /// Applies entries of the truth's outbox.
    ///
    /// # Errors
    /// See [`follow`](crate::ledger::LedgerCalls::follow).
    pub fn follow(&mut self, lane: Lane, entries: &[Entry]) -> Result<(), LedgerError> {
        let epoch = self.sale(lane.activity)?.epoch;
        let state = self.lane(lane)?;
        let position = state.followed;
        let unknown: Vec<_> =
            entries.iter().filter(|entry| entry.position.sequence > position.sequence).cloned().collect();
        let Some(last) = unknown.last() else { return Ok(()) };
        let last = last.position;
        let contiguous =
            (position.sequence + 1..).zip(&unknown).all(|(next, entry)| entry.position.sequence == next);
        if !contiguous {
            return Err(LedgerError::Moved { epoch, position });
        }
        let state = self.lane_mut(lane)?;
        for entry in &unknown {
            state.obey(entry).map_err(|misfit| LedgerError::Stopped(misfit.to_string().into()))?;
        }
        state.followed = last;
        if unknown.iter().any(|entry| matches!(entry.event, Event::Amended { .. })) {
            self.room_until = Timestamp::EPOCH;
        }
        self.journal.push(&Record::Followed(lane, unknown));
        Ok(())
    }

    /// How far a lane has followed the truth.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn followed(&self, lane: Lane) -> Result<Position, LedgerError> {
        Ok(self.lane(lane)?.followed)
    }

    fn check_newer(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        match self.sales.get(&activity) {
            Some(sale) if sale.epoch >= epoch => {
                Err(LedgerError::Moved { epoch: sale.epoch, position: sale.lanes[0].head })
            }
            _ => Ok(()),
        }
    }
}

impl super::lane::LaneState {
    /// Applies one entry of the truth.
    fn obey(&mut self, entry: &Entry) -> Result<(), CorruptState> {
        let revision = entry.position.sequence;
        match &entry.event {
            Event::Order { id, user, change } => {
                if Lane::of(self.lane.activity, *user, self.base.buckets()) != self.lane {
                    return Ok(());
                }
                let known = self.owned(*user, *id);
                if let Some(row) = known.filter(|row| !self.is_changed_by(*row, revision)) {
                    self.change_linked(revision, row, change);
                    return Ok(());
                }
                if let (Some(row), OrderChange::Placed(_) | OrderChange::PlacedFree(_)) = (known, change)
                    && self.orders.row(row).status == OrderStatus::Refused
                {
                    return Err(CorruptState("the truth placed an order that it had refused"));
                }
                self.apply(entry.at, revision, &entry.event)?;
                if let Some(row) = self.owned(*user, *id) {
                    self.orders.row_mut(row).persisted = true;
                }
                Ok(())
            }
            Event::Amended { id, .. } if self.changes.contains_key(id) => Ok(()),
            Event::Amended { .. } => self.apply(entry.at, revision, &entry.event),
            Event::Adjusted { .. } if self.lane.bucket != 0 => Ok(()),
            Event::Adjusted { id, sku, delta, .. } => match self.adjustments.get(id).copied() {
                Some(known) if known == (*sku, *delta) => Ok(()),
                // The gate took a different adjustment under this id; the truth refuses that one.
                Some((taken, _)) => {
                    self.apply(entry.at, revision, &Event::AdjustmentRefused { id: id.clone(), sku: taken })?;
                    self.apply(entry.at, revision, &entry.event)
                }
                None => self.apply(entry.at, revision, &entry.event),
            },
            Event::AdjustmentRefused { .. } if self.lane.bucket != 0 => Ok(()),
            Event::AdjustmentRefused { .. } => self.apply(entry.at, revision, &entry.event),
            // Its time is its own clock's, which is stepped by itself.
            Event::TimeStepped { by_ms, .. } => {
                self.version += 1;
                self.move_deadlines(revision, *by_ms);
                Ok(())
            }
            Event::Opened(_)
            | Event::Reopened
            | Event::EpochTaken
            | Event::Sent(_)
            | Event::Received(_)
            | Event::Forgotten(_) => Ok(()),
        }
    }
}

/// Divides the available units equally among the lanes. They are derived, never copied: the terms'
/// units plus adjustments, less what orders hold.
fn divide(lanes: &mut [super::lane::LaneState], terms: &Arc<crate::ledger::Terms>) {
    let count = i64::try_from(lanes.len()).unwrap_or(i64::MAX);
    for (index, offer) in terms.offers().iter().enumerate() {
        // Inserting the orders has left `available` at minus what they hold.
        let free: i64 = i64::from(offer.units())
            + lanes.iter().map(|lane| lane.units[index].available + lane.units[index].adjusted).sum::<i64>();
        for (bucket, lane) in (0..).zip(lanes.iter_mut()) {
            let units = &mut lane.units[index];
            units.available = free.div_euclid(count) + i64::from(bucket < free.rem_euclid(count));
            units.share = units.available + units.held + units.sold - units.adjusted;
        }
    }
}
