//! The gate's side of two tiers: close, load, reopen, follow.
//!
//! A lane loads content in place, closed, and by itself: only the units are divided among all lanes.

use super::{
    CorruptState, batch::Batch, journal_record::Record, lane::LaneState, loading::Loading,
    machine::StateMachine,
};
use crate::{
    domain::{ActivityId, Invalid, Order, OrderStatus, Timestamp},
    ledger::{Chunk, Consumer, Entry, Epoch, Event, Lane, LedgerError, LedgerRole, OrderChange, Position},
};

impl StateMachine {
    /// The epoch of the activity's content, if the activity is open.
    pub fn open_epoch(&self, activity: ActivityId) -> Option<Epoch> {
        let lanes = &self.sales.get(&activity)?.lanes;
        let epoch = lanes[0].epoch;
        let is_open = |lane: &LaneState| lane.is_open() && lane.epoch == epoch;
        (self.has_all(lanes) && lanes.iter().all(is_open)).then_some(epoch)
    }

    /// Stops admitting orders.
    pub fn close(&mut self, activity: ActivityId, epoch: Epoch) {
        let role = self.role;
        let Some(sale) = self.sales.get_mut(&activity).filter(|_| role == LedgerRole::Gate) else { return };
        if sale.lanes.iter().any(|lane| lane.closed_to < epoch) {
            sale.lanes.iter_mut().for_each(|lane| lane.closed_to = lane.closed_to.max(epoch));
            self.journal.push(&Record::ClosedForEver(activity, epoch));
        }
    }

    /// Loads one part of the truth's content.
    ///
    /// # Errors
    /// See [`load`](crate::ledger::LedgerCalls::load).
    pub fn load(&mut self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.check_loads(activity, &chunk)?;
        let mut new = (!self.sales.contains_key(&activity)).then(|| self.new_sale(&chunk.terms));
        let Some(sale) = self.sales.get_mut(&activity).or(new.as_mut()) else { return Ok(()) };
        let mut is_new = false;
        for lane in &mut sale.lanes {
            is_new |= lane.load(epoch, &chunk, &self.consumers)?;
        }
        if !is_new {
            return Ok(());
        }
        if chunk.after.is_none() {
            self.budget.make_room(&mut sale.lanes.iter_mut().collect::<Vec<_>>());
            self.room_until = Timestamp::EPOCH;
        }
        self.sales.extend(new.map(|sale| (activity, sale)));
        self.journal.push(&Record::Loaded(activity, epoch, Box::new(chunk)));
        Ok(())
    }

    /// Whether this ledger can load a chunk.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if it is no gate, or the chunk is of another activity.
    pub fn check_loads(&self, activity: ActivityId, chunk: &Chunk) -> Result<(), LedgerError> {
        if self.role == LedgerRole::Gate && chunk.terms.activity() == activity {
            return Ok(());
        }
        Err(Invalid::new("chunk", "must be loaded by a gate, for its own activity").into())
    }

    /// Opens the loaded content.
    ///
    /// # Errors
    /// See [`reopen`](crate::ledger::LedgerCalls::reopen).
    pub fn reopen(&mut self, batch: Batch, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        let Some(free) = self.free_units(activity, epoch)? else { return Ok(()) };
        self.journal.push(&Record::Reopened(activity, epoch, batch.id));
        for lane in self.lanes_of(activity) {
            self.reopen_lane(batch, lane, epoch, &free)?;
        }
        Ok(())
    }

    /// Per offer, the units of all lanes that no order holds; `None` if all lanes are open in this epoch.
    ///
    /// # Errors
    /// See [`reopen`](crate::ledger::LedgerCalls::reopen).
    pub fn free_units(&self, activity: ActivityId, epoch: Epoch) -> Result<Option<Vec<i64>>, LedgerError> {
        if self.open_epoch(activity) == Some(epoch) {
            return Ok(None);
        }
        let sale = self.sales.get(&activity).ok_or_else(not_whole)?;
        if let Some(Loading { free: Some(free), epoch: of, .. }) = &sale.lanes[0].loading
            && *of == epoch
        {
            return Ok(Some(free.clone()));
        }
        if !self.has_all(&sale.lanes) {
            return Err(not_whole());
        }
        sale.lanes.iter().try_for_each(|lane| lane.check_whole(epoch))?;
        let free = |index: usize| sale.lanes.iter().map(|lane| lane.units[index].available).sum();
        Ok(Some((0..sale.lanes[0].units.len()).map(free).collect()))
    }

    /// Whether no lane of an activity is missing: a store may have lost some.
    fn has_all(&self, lanes: &[LaneState]) -> bool {
        lanes.len() == usize::from(self.lane_count(&lanes[0].base))
    }

    /// Notes the free units in a lane that opens last, so that the others can open one by one.
    ///
    /// # Errors
    /// As [`StateMachine::reopen_lane`].
    pub fn note_free(&mut self, lane: Lane, epoch: Epoch, free: &[i64]) -> Result<(), LedgerError> {
        let state = self.lane_mut(lane)?;
        state.check_whole(epoch)?;
        if let Some(loading) = &mut state.loading {
            loading.free = Some(free.to_vec());
        }
        Ok(())
    }

    /// Opens the loaded content of one lane, unless it is open. `free` are the free units of all lanes.
    ///
    /// # Errors
    /// See [`reopen`](crate::ledger::LedgerCalls::reopen).
    pub fn reopen_lane(
        &mut self,
        batch: Batch,
        lane: Lane,
        epoch: Epoch,
        free: &[i64],
    ) -> Result<(), LedgerError> {
        let state = self.lane_mut(lane)?;
        if state.is_open() && state.epoch == epoch {
            return Ok(());
        }
        state.check_whole(epoch)?;
        state.open_content(epoch, free);
        self.commit(lane, batch, &[Event::Reopened]).map(drop)
    }

    /// Replays the opening of loaded content. The event of each lane follows.
    pub(super) fn replay_reopened(&mut self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        let free = self.free_units(activity, epoch)?.unwrap_or_default();
        let sale = self.sales.get_mut(&activity).ok_or_else(not_whole)?;
        sale.lanes.iter_mut().for_each(|lane| lane.open_content(epoch, &free));
        Ok(())
    }

    /// Applies entries of the truth's outbox.
    ///
    /// # Errors
    /// See [`follow`](crate::ledger::LedgerCalls::follow).
    pub fn follow(&mut self, lane: Lane, entries: &[Entry]) -> Result<(), LedgerError> {
        let state = self.lane(lane)?;
        if state.loading.is_some() {
            return Err(LedgerError::NotOpen);
        }
        let (epoch, position) = (state.epoch, state.followed);
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
            state.obey(entry).map_err(stopped)?;
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
}

fn not_whole() -> LedgerError {
    Invalid::new("epoch", "the content of this epoch is not fully loaded").into()
}

impl LaneState {
    /// Whether it takes orders and transfers.
    pub(super) fn is_open(&self) -> bool {
        self.role != LedgerRole::Gate || self.epoch > self.closed_to
    }

    fn check_newer(&self, epoch: Epoch) -> Result<(), LedgerError> {
        let reached = if mutant!("closed-epoch-opens") { self.epoch } else { self.epoch.max(self.closed_to) };
        if reached >= epoch {
            return Err(LedgerError::Moved { epoch: reached, position: self.head });
        }
        Ok(())
    }

    /// Checks that no content of a newer epoch is being loaded.
    fn check_not_overtaken(&self, epoch: Epoch) -> Result<(), LedgerError> {
        match &self.loading {
            Some(other) if other.epoch > epoch => {
                Err(LedgerError::Moved { epoch: other.epoch, position: Position::default() })
            }
            _ => Ok(()),
        }
    }

    fn check_whole(&self, epoch: Epoch) -> Result<(), LedgerError> {
        self.check_newer(epoch)?;
        self.check_not_overtaken(epoch)?;
        let is_whole = |loading: &Loading| loading.epoch == epoch && loading.next.is_none();
        if self.loading.as_ref().is_some_and(is_whole) { Ok(()) } else { Err(not_whole()) }
    }

    /// Loads its part of a chunk. Returns whether the chunk is new.
    pub(super) fn load(
        &mut self,
        epoch: Epoch,
        chunk: &Chunk,
        consumers: &[Consumer],
    ) -> Result<bool, LedgerError> {
        self.check_newer(epoch)?;
        self.check_not_overtaken(epoch)?;
        match &self.loading {
            _ if chunk.after.is_none() => self.start_over(chunk, consumers).map_err(stopped)?,
            Some(known) if known.epoch == epoch && known.after == chunk.after => return Ok(false),
            Some(known) if known.epoch == epoch && known.next.is_some() && known.next == chunk.after => {}
            _ => return Err(Invalid::new("chunk", "is not the next part of the content").into()),
        }
        for order in self.own_orders(chunk) {
            self.insert(order).map_err(stopped)?;
        }
        self.loading = Some(Loading { epoch, after: chunk.after, next: chunk.next, free: None });
        Ok(true)
    }

    /// The orders of a chunk that belong to this lane.
    pub(super) fn own_orders<'a>(&self, chunk: &'a Chunk) -> impl Iterator<Item = &'a Order> + use<'a> {
        let (lane, buckets) = (self.lane, chunk.terms.buckets());
        chunk.orders.iter().filter(move |order| Lane::of(lane.activity, order.key.user, buckets) == lane)
    }

    /// Closes, and replaces the content by that of a truth without orders.
    fn start_over(&mut self, chunk: &Chunk, consumers: &[Consumer]) -> Result<(), CorruptState> {
        let mut lane = Self::new(self.lane, self.role, std::sync::Arc::clone(&chunk.terms));
        (lane.last, lane.version) = (self.last, self.version + 1);
        (lane.epoch, lane.closed_to) = (self.epoch, self.closed_to.max(self.epoch));
        lane.steps.clone_from(&self.steps);
        lane.followed = chunk.position;
        lane.outbox.add(consumers, 0);
        let changes = chunk.changes.iter();
        lane.changes = changes.map(|(id, change, by)| (*id, (change.clone(), by.clone()))).collect();
        lane.renew_terms()?;
        for (id, sku, delta) in chunk.adjustments.iter().filter(|_| self.lane.bucket == 0) {
            let units = lane.units_of(*sku)?;
            units.adjusted += delta;
            units.available += delta;
            lane.adjustments.insert(id.clone(), (*sku, *delta));
        }
        *self = lane;
        Ok(())
    }

    /// Opens what it has loaded, with an equal part of the free units of all lanes.
    fn open_content(&mut self, epoch: Epoch, free: &[i64]) {
        let (bucket, lanes) = (i64::from(self.lane.bucket), i64::from(self.base.buckets().get()));
        for (units, free) in self.units.iter_mut().zip(free) {
            let part = free.div_euclid(lanes) + i64::from(bucket < free.rem_euclid(lanes));
            units.share += part - units.available;
            units.available = part;
        }
        (self.epoch, self.loading) = (epoch, None);
    }

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

fn stopped(misfit: CorruptState) -> LedgerError {
    LedgerError::Stopped(misfit.to_string().into())
}
