//! The state machine: all activities of a ledger, with the methods of
//! [`Ledger`](crate::ledger::Ledger).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    CorruptState,
    activity::ActivityState,
    away::Away,
    batch::Batch,
    journal_record::{Journal, Record},
    lane::LaneState,
    precedence,
    prepared::Prepared,
    room::RoomBudget,
    transitions,
};
use crate::{
    domain::{ActivityId, Attribution, Capture, Invalid, OrderKey, PaymentId, Timestamp, UserId},
    ledger::{
        Adjusted, Adjustment, Advance, Advanced, Advances, Bucket, Change, ChangeId, Consumer, Due, Entry,
        Epoch, Event, Kept, Lane, LedgerError, LedgerRole, Opened, OrderChange, Outcome, Placed, Position,
        Reservations, Reserve, Terms,
    },
};

/// All activities of a ledger. Its methods specify what each call of a ledger does.
#[derive(Clone, Debug)]
pub struct StateMachine {
    pub(super) role: LedgerRole,
    pub(super) sales: BTreeMap<ActivityId, ActivityState>,
    pub(super) consumers: Vec<Consumer>,
    /// Captures of unknown payments, from journals and snapshots of versions that knew no lane of them.
    pub(super) unmatched: HashMap<PaymentId, Vec<Capture>>,
    /// Activities that are not in memory.
    pub(super) away: Away,
    pub(super) journal: Journal,
    /// Bounds the memory that lanes reserve ahead of their orders.
    pub(super) budget: RoomBudget,
    /// Before then no lane that has room is over.
    pub(super) room_until: Timestamp,
    /// With more unread entries than this in its outbox, a lane places no orders.
    pub(super) max_unread: u64,
    /// Whether the lane of this excerpt has replaced all that was read of it.
    pub(super) is_replaced: bool,
}

/// The largest change of one adjustment, up or down.
const MAX_DELTA: u64 = 1_000_000_000;

impl StateMachine {
    /// A state machine without activities.
    pub fn new(role: LedgerRole) -> Self {
        Self {
            role,
            sales: BTreeMap::new(),
            consumers: Vec::new(),
            unmatched: HashMap::new(),
            away: Away::default(),
            journal: Journal::default(),
            budget: RoomBudget::default(),
            room_until: Timestamp::MAX,
            max_unread: u64::MAX,
            is_replaced: false,
        }
    }

    /// The role of the ledger that it specifies.
    pub fn role(&self) -> LedgerRole {
        self.role
    }

    /// Opens an activity.
    ///
    /// # Errors
    /// See [`open`](crate::ledger::LedgerCalls::open).
    pub fn open(&mut self, batch: Batch, terms: &Arc<Terms>) -> Result<Opened, LedgerError> {
        self.open_prepared(batch, Prepared::new(self.role, terms, &self.budget))
    }

    /// Opens an activity whose lanes were prepared outside the state machine.
    ///
    /// # Errors
    /// See [`open`](crate::ledger::LedgerCalls::open).
    pub fn open_prepared(&mut self, batch: Batch, prepared: Prepared) -> Result<Opened, LedgerError> {
        let Prepared { terms, lanes } = prepared;
        if let Some(opened) = self.opened(&terms)? {
            return Ok(opened);
        }
        self.journal.push(&Record::Opened(Arc::clone(&terms)));
        let sale = ActivityState::of(&terms, lanes, &self.consumers);
        self.sales.insert(terms.activity(), sale);
        self.room_until = self.room_until.min(terms.window().ends_at());
        let terms = &terms;
        for lane in self.lanes_of(terms.activity()) {
            self.commit(lane, batch, &[Event::Opened(Arc::clone(terms))])?;
        }
        Ok(Opened::Now)
    }

    /// [`Opened::Before`] if the activity is open with these terms, `None` if it is not open.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] if it is open with other terms; [`LedgerError::NotDeciding`] at a
    /// gate.
    pub fn opened(&self, terms: &Terms) -> Result<Option<Opened>, LedgerError> {
        self.deciding("openings")?;
        match self.sales.get(&terms.activity()) {
            None => Ok(None),
            Some(sale) if *sale.lanes[0].base == *terms => Ok(Some(Opened::Before)),
            Some(_) => Err(Invalid::new("terms", "the activity is already open with other terms").into()),
        }
    }

    /// Changes the terms of an activity.
    ///
    /// # Errors
    /// See [`amend`](crate::ledger::LedgerCalls::amend).
    pub fn amend(
        &mut self,
        batch: Batch,
        activity: ActivityId,
        id: ChangeId,
        change: &Change,
        by: &Attribution,
    ) -> Result<(), LedgerError> {
        self.deciding("changes of terms")?;
        self.sale(activity)?.lanes[0].base.changed(change)?;
        for lane in self.lanes_of(activity) {
            if !self.lane(lane)?.changes.contains_key(&id) {
                let event = Event::Amended { id, change: change.clone(), by: by.clone() };
                self.commit(lane, batch, &[event])?;
            }
        }
        Ok(())
    }

    /// Adds or removes units of an offer.
    ///
    /// # Errors
    /// See [`adjust`](crate::ledger::LedgerCalls::adjust).
    pub fn adjust(&mut self, batch: Batch, adjustment: &Adjustment) -> Result<Adjusted, LedgerError> {
        let Adjustment { activity, sku, id, delta, by } = adjustment;
        if *delta > 0 {
            self.deciding("positive adjustments")?;
        }
        if *delta == 0 || delta.unsigned_abs() > MAX_DELTA {
            return Err(
                Invalid::new("delta", "must be from -1,000,000,000 to 1,000,000,000 and not 0").into()
            );
        }
        let lane = Lane::first(*activity);
        let state = self.admitting(lane)?;
        let Ok(index) = state.index(*sku) else {
            return Ok(Adjusted::UnknownOffer);
        };
        if let Some(known) = state.adjustments.get(id) {
            return Ok(if *known == (*sku, *delta) { Adjusted::Replayed } else { Adjusted::IdReused });
        }
        let available = state.units[index as usize].available;
        if available + delta < 0 && *delta < 0 && !mutant!("adjustment-below-zero") {
            return Ok(Adjusted::Insufficient {
                available: u32::try_from(available.max(0)).unwrap_or(u32::MAX),
            });
        }
        let event = Event::Adjusted { id: id.clone(), sku: *sku, delta: *delta, by: by.clone() };
        self.commit(lane, batch, &[event])?;
        Ok(Adjusted::Done)
    }

    /// Decides requests for units.
    ///
    /// # Errors
    /// See [`reserve`](crate::ledger::LedgerCalls::reserve).
    pub fn reserve(
        &mut self,
        batch: Batch,
        lane: Lane,
        epoch: Option<Epoch>,
        requests: &[Reserve],
    ) -> Result<Reservations, LedgerError> {
        let ready = |state: &LaneState| state.is_open() && epoch.is_none_or(|epoch| epoch == state.epoch);
        let state = self.lane(lane).ok();
        if !state.is_some_and(|state| ready(state) || mutant!("epoch-not-compared")) {
            let at = state.map_or(batch.now, |state| state.last.max(batch.now));
            let unready = |request: &Reserve| match state.map(|state| state.index(request.sku)) {
                Some(Err(_)) => Outcome::UnknownOffer,
                _ => Outcome::NotReady,
            };
            return Ok(Reservations { at, outcomes: requests.iter().map(unready).collect() });
        }
        for request in requests {
            self.check_lane(lane, request.user)?;
        }
        let at = self.lane_mut(lane)?.tick(batch.now);
        let full = self.full_outbox(lane);
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let state = self.lane(lane)?;
            outcomes.push(match state.decide_reserve(at, request) {
                precedence::Decision::Decline(outcome) => outcome,
                precedence::Decision::Replay(row) => {
                    Outcome::Replayed { order: Box::new(state.order(row)), position: state.head }
                }
                precedence::Decision::Place(placed) => {
                    // This would be the batch's first order, so nothing has happened yet.
                    if let Some(full) = full {
                        return Err(full);
                    }
                    let change = self.placing(placed);
                    let event = Event::Order { id: request.order, user: request.user, change };
                    let position = self.commit(lane, batch, &[event])?;
                    let state = self.lane(lane)?;
                    let row = state.orders.latest().ok_or_else(damaged)?;
                    Outcome::Reserved { order: Box::new(state.order(row)), position }
                }
            });
        }
        Ok(Reservations { at, outcomes })
    }

    /// The event that places an order. At a gate, the truth decides whether it is free.
    pub(super) fn placing(&self, placed: Placed) -> OrderChange {
        let is_free = placed.amount.amount() == 0 && self.role != LedgerRole::Gate;
        if is_free && !mutant!("free-order-unpaid") {
            OrderChange::PlacedFree(Placed { deadline: None, ..placed })
        } else {
            OrderChange::Placed(placed)
        }
    }

    /// Takes later steps of orders.
    ///
    /// # Errors
    /// See [`advance`](crate::ledger::LedgerCalls::advance).
    pub fn advance(&mut self, batch: Batch, lane: Lane, steps: &[Advance]) -> Result<Advances, LedgerError> {
        self.deciding("steps of orders")?;
        if steps.iter().any(|step| step.order().activity != lane.activity) {
            return Err(Invalid::new("order", "belongs to another activity").into());
        }
        self.lane(lane)?;
        for step in steps {
            self.check_lane(lane, step.order().user)?;
        }
        let at = self.lane_mut(lane)?.tick(batch.now);
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(self.advance_one(batch, lane, step)?);
        }
        Ok(Advances { at, outcomes })
    }

    fn advance_one(&mut self, batch: Batch, lane: Lane, step: &Advance) -> Result<Advanced, LedgerError> {
        let state = self.lane(lane)?;
        let boxed = |state: &LaneState, row| Box::new(state.order(row));
        let event = |id, change| Event::Order { id, user: step.order().user, change };
        Ok(match state.decide_advance(state.last, step) {
            transitions::Decision::Decline(outcome) => outcome,
            transitions::Decision::Replay(row) => Advanced::Replayed(boxed(state, row)),
            transitions::Decision::Change(row, change) => {
                let id = state.orders.row(row).id;
                let (kept, in_parts) = match step {
                    Advance::OpenPayment { payment, in_parts, .. } => {
                        let kept = state.kept.get(payment).into_iter().chain(self.unmatched.get(payment));
                        (kept.flatten().cloned().collect(), *in_parts)
                    }
                    _ => (Vec::new(), false),
                };
                self.commit(lane, batch, &[event(id, change)])?;
                for capture in kept {
                    // The order is now being paid, so no replacement is needed.
                    let order = step.order();
                    let step = Advance::Capture { order, capture, in_parts, replacement: order.id };
                    self.advance_one(batch, lane, &step)?;
                }
                Advanced::Done(boxed(self.lane(lane)?, row))
            }
            transitions::Decision::RefundDue(row, change, reason) => {
                let id = state.orders.row(row).id;
                self.commit(lane, batch, &[event(id, change)])?;
                Advanced::RefundDue(boxed(self.lane(lane)?, row), reason)
            }
            transitions::Decision::Retake(id, change) => {
                self.commit(lane, batch, &[event(id, change)])?;
                let state = self.lane(lane)?;
                Advanced::Retaken(boxed(state, state.owned(step.order().user, id).ok_or_else(damaged)?))
            }
        })
    }

    /// Expires orders that are due, and hands out payments to be closed.
    ///
    /// # Errors
    /// See [`expire_due`](crate::ledger::LedgerCalls::expire_due).
    pub fn expire_due(&mut self, batch: Batch, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        self.deciding("deadlines")?;
        let at = self.lane_mut(lane)?.tick(batch.now);
        let mut due = Due { at, expired: Vec::new(), closing: Vec::new(), next: None };
        while due.expired.len() + due.closing.len() < limit {
            let state = self.lane(lane)?;
            let Some((row, change, closing)) = state.decide_due(at) else { break };
            let row = state.orders.row(row);
            let (id, user) = (row.id, row.user);
            match closing {
                Some(closing) => due.closing.push(closing),
                None => due.expired.push(OrderKey { activity: lane.activity, user, id }),
            }
            self.commit(lane, batch, &[Event::Order { id, user, change }])?;
        }
        due.next = self.lane(lane)?.deadlines.first().map(|(due, _)| *due);
        Ok(due)
    }

    /// Keeps a capture until its payment is opened.
    ///
    /// # Errors
    /// See [`keep_unmatched`](crate::ledger::LedgerCalls::keep_unmatched).
    pub fn keep_unmatched(&mut self, lane: Lane, capture: &Capture) -> Result<Kept, LedgerError> {
        self.deciding("captures")?;
        let state = self.lane_mut(lane)?;
        if let Some(order) = state.order_of_payment(capture.payment) {
            return Ok(Kept::Known(order));
        }
        let known = state.kept.get(&capture.payment).into_iter().flatten();
        let is_repeated = known.into_iter().any(|known| known.repeats(capture));
        if !is_repeated && !mutant!("unmatched-capture-dropped") {
            state.keep(capture.clone());
            self.journal.push(&Record::Kept(lane, capture.clone()));
        }
        Ok(Kept::Kept)
    }

    /// Advances the time of a lane, never back.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn advance_time(&mut self, lane: Lane, to: Timestamp) -> Result<(), LedgerError> {
        self.lane_mut(lane)?.tick(to);
        Ok(())
    }

    pub(super) fn sale(&self, activity: ActivityId) -> Result<&ActivityState, LedgerError> {
        self.sales.get(&activity).ok_or(LedgerError::NotOpen)
    }

    pub(super) fn lane(&self, lane: Lane) -> Result<&LaneState, LedgerError> {
        self.sale(lane.activity)?.lane(lane.bucket).ok_or(LedgerError::NotOpen)
    }

    /// A lane that takes orders and transfers: any but a closed gate's.
    pub(super) fn admitting(&self, lane: Lane) -> Result<&LaneState, LedgerError> {
        Some(self.lane(lane)?).filter(|state| state.is_open()).ok_or(LedgerError::NotOpen)
    }

    pub(super) fn lane_mut(&mut self, lane: Lane) -> Result<&mut LaneState, LedgerError> {
        let sale = self.sales.get_mut(&lane.activity).ok_or(LedgerError::NotOpen)?;
        sale.lane_mut(lane.bucket).ok_or(LedgerError::NotOpen)
    }

    pub(super) fn deciding(&self, what: &'static str) -> Result<(), LedgerError> {
        if self.role == LedgerRole::Gate { Err(LedgerError::NotDeciding(what)) } else { Ok(()) }
    }

    /// How many lanes an activity has here.
    pub fn lane_count(&self, terms: &Terms) -> Bucket {
        if self.role == LedgerRole::Truth { 1 } else { terms.buckets().get() }
    }

    pub(super) fn lane_of(&self, sale: &ActivityState, activity: ActivityId, user: UserId) -> Lane {
        match self.role {
            LedgerRole::Truth => Lane::first(activity),
            LedgerRole::Single | LedgerRole::Gate => Lane::of(activity, user, sale.lanes[0].base.buckets()),
        }
    }

    fn check_lane(&self, lane: Lane, user: UserId) -> Result<(), LedgerError> {
        if self.lane_of(self.sale(lane.activity)?, lane.activity, user) == lane {
            Ok(())
        } else {
            Err(Invalid::new("user", "belongs to another lane").into())
        }
    }

    pub(super) fn lanes_of(&self, activity: ActivityId) -> Vec<Lane> {
        self.sales.get(&activity).into_iter().flat_map(|sale| &sale.lanes).map(|lane| lane.lane).collect()
    }

    pub(super) fn new_sale(&self, terms: &Arc<Terms>) -> ActivityState {
        ActivityState::of(terms, Prepared::bare(self.role, terms).lanes, &self.consumers)
    }

    pub(super) fn add_sale(&mut self, terms: &Arc<Terms>) {
        let sale = self.new_sale(terms);
        self.sales.insert(terms.activity(), sale);
    }

    /// Applies the events of one decision, and writes them to the journal and the outbox. Returns
    /// the last one's position.
    pub(super) fn commit(
        &mut self,
        lane: Lane,
        batch: Batch,
        events: &[Event],
    ) -> Result<Position, LedgerError> {
        let state = self.lane_mut(lane)?;
        let at = state.tick(batch.now);
        let mut position = Position { epoch: state.epoch, sequence: state.head.sequence, batch: batch.id };
        for event in events {
            position.sequence += 1;
            self.journal.push_event(lane, at, position, event);
            self.enter(lane, at, position, event)
                .map_err(|misfit| LedgerError::Stopped(misfit.to_string().into()))?;
        }
        Ok(position)
    }

    pub(super) fn enter(
        &mut self,
        lane: Lane,
        at: Timestamp,
        position: Position,
        event: &Event,
    ) -> Result<(), CorruptState> {
        // Revisions count the truth's events. A gate's own decision precedes everything it will
        // follow.
        let revision = if self.role == LedgerRole::Gate { 0 } else { position.sequence };
        let state = self.lane_mut(lane).map_err(|_| CorruptState("the activity is not open"))?;
        state.apply(at, revision, event)?;
        // The outbox of a gate begins when it opens.
        if state.loading.is_none() || mutant!("step-enters-while-loading") {
            state.head = position;
            state.outbox.push(|| Entry { position, at, event: event.clone() });
        }
        if matches!(event, Event::Amended { .. }) {
            self.room_until = Timestamp::EPOCH;
        }
        self.forget_unmatched(event);
        Ok(())
    }

    /// Forgets the captures of a payment that opens: they follow in the same batch. Those of its lane are
    /// forgotten by the lane itself.
    pub(super) fn forget_unmatched(&mut self, event: &Event) {
        if let Event::Order { change: OrderChange::PaymentOpened { payment, .. }, .. } = event {
            self.unmatched.remove(payment);
        }
    }
}

pub(super) fn damaged() -> LedgerError {
    LedgerError::Stopped("a decision did not take effect".into())
}
