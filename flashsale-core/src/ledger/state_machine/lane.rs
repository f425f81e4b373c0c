//! One lane: its state, what can be ordered from it, and the events of its terms and units. Events
//! of orders are in `order_events`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    limit_counters::LimitCounters,
    loading::Loading,
    orders::{Orders, RowId},
    outbox::Outbox,
    room::Room,
    units::Units,
};
use crate::{
    domain::{
        Attribution, Capture, LimitRule, OfferTerms, Order, OrderId, PaymentId, Selling, SkuId, Strategy,
        Subjects, Timestamp, UserId,
    },
    ledger::{
        AdjustmentId, Bucket, BuyerFilter, Change, ChangeId, Epoch, Event, Lane, LedgerRole, OfferView,
        Position, StepId, Terms, Transfer, View,
    },
};

/// An event contradicts the state of its lane: the journal or the content is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event contradicts the state of its lane: {0}")]
pub struct CorruptState(pub &'static str);

/// The state of one lane. It changes only by [`LaneState::apply`].
#[derive(Clone, Debug)]
pub(super) struct LaneState {
    pub(super) lane: Lane,
    pub(super) role: LedgerRole,
    /// The terms as first opened.
    pub(super) base: Arc<Terms>,
    /// The terms with all changes.
    pub(super) terms: Arc<Terms>,
    pub(super) selling: Selling,
    pub(super) changes: BTreeMap<ChangeId, (Change, Attribution)>,
    /// The time of the last decision.
    pub(super) last: Timestamp,
    /// The time of the event that is being applied.
    pub(super) now: Timestamp,
    /// The position of the last entry.
    pub(super) head: Position,
    /// The epoch of a truth, or of the content that a gate opened last.
    pub(super) epoch: Epoch,
    /// A gate opens no content of this epoch or an older one.
    pub(super) closed_to: Epoch,
    /// The content that a gate is loading, until it opens.
    pub(super) loading: Option<Loading>,
    /// How far a gate has followed its truth.
    pub(super) followed: Position,
    pub(super) version: u64,
    pub(super) units: Vec<Units>,
    pub(super) orders: Orders,
    pub(super) counters: LimitCounters,
    pub(super) deadlines: BTreeSet<(Timestamp, RowId)>,
    pub(super) refunds: BTreeSet<RowId>,
    pub(super) adjustments: BTreeMap<AdjustmentId, (SkuId, i64)>,
    pub(super) transit: BTreeMap<(Bucket, u64), Transfer>,
    pub(super) sent: BTreeMap<Bucket, u64>,
    pub(super) received: BTreeMap<Bucket, u64>,
    /// Captures of payments that are not open yet.
    pub(super) kept: BTreeMap<PaymentId, Vec<Capture>>,
    pub(super) buyers: BuyerFilter,
    pub(super) outbox: Outbox,
    /// The steps of time that it has taken.
    pub(super) steps: BTreeSet<StepId>,
    /// The memory reserved ahead of its orders, until it is over.
    pub(super) room: Option<Room>,
}

/// The most orders that a lane reserves memory for before its sale: 400 MB with their rows.
const MAX_ROOM: usize = 2_000_000;

impl LaneState {
    pub(super) fn new(lane: Lane, role: LedgerRole, base: Arc<Terms>) -> Self {
        let share = |offer: &_| match role {
            LedgerRole::Truth => i64::from(OfferTerms::units(offer)),
            LedgerRole::Single | LedgerRole::Gate => base.share(offer, lane.bucket).into(),
        };
        let units: Vec<_> = base
            .offers()
            .iter()
            .map(|offer| Units { share: share(offer), available: share(offer), ..Units::default() })
            .collect();
        Self {
            lane,
            role,
            terms: Arc::clone(&base),
            selling: Selling::On,
            changes: BTreeMap::new(),
            last: Timestamp::EPOCH,
            now: Timestamp::EPOCH,
            head: Position::default(),
            epoch: Epoch::default(),
            closed_to: Epoch::default(),
            loading: None,
            followed: Position::default(),
            version: 0,
            units,
            orders: Orders::default(),
            counters: LimitCounters::new(&base),
            deadlines: BTreeSet::new(),
            refunds: BTreeSet::new(),
            adjustments: BTreeMap::new(),
            transit: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            kept: BTreeMap::new(),
            buyers: BuyerFilter::default(),
            outbox: Outbox::default(),
            steps: BTreeSet::new(),
            room: None,
            base,
        }
    }

    /// How many orders it wants to reserve memory for: one per unit.
    pub(super) fn wanted_room(&self) -> usize {
        let units = self.units.iter().map(|units| units.share).sum::<i64>();
        usize::try_from(units).unwrap_or(0).min(MAX_ROOM)
    }

    /// Reserves memory for this many orders.
    pub(super) fn reserve(&mut self, orders: usize) {
        self.orders.reserve(orders);
        self.counters.reserve(orders);
        if self.buyers.room() < orders {
            self.buyers = BuyerFilter::with_room(orders);
            self.orders.iter().for_each(|(_, row)| self.buyers.insert(row.user));
        }
    }

    /// Whether nothing can be ordered from the lane at `now` or later, unless its terms change.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.selling == Selling::Ended || self.terms.window().ends_at() <= now
    }

    /// Writes to a new lane's memory once. The operating system provides memory on the first write,
    /// which takes 0.2 to 30 µs per 4 KiB (measured on a virtual machine). Otherwise the first
    /// buyers would wait for that.
    pub(super) fn prefault(&mut self) {
        self.orders.prefault(self.room.as_ref().map_or(0, |room| room.orders));
        self.counters.prefault();
    }

    /// Advances the lane's time to `now`, never back, and returns it.
    pub(super) fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.last = self.last.max(now);
        self.last
    }

    /// Keeps a capture until its payment opens.
    pub(super) fn keep(&mut self, capture: Capture) {
        self.kept.entry(capture.payment).or_default().push(capture);
    }

    pub(super) fn order(&self, row: RowId) -> Order {
        self.orders.order(self.lane, row, &self.terms)
    }

    /// The row of an order, if it belongs to this user.
    pub(super) fn owned(&self, user: UserId, id: OrderId) -> Option<RowId> {
        if mutant!("owner-ignored") {
            return self.orders.with_id(id).next();
        }
        self.orders.by_owner(user, id)
    }

    pub(super) fn strategy(&self, offer: u32) -> Strategy {
        self.terms.offers()[offer as usize].strategy()
    }

    /// The units that one more order can ask for.
    pub(super) fn takeable(&self, offer: u32) -> i64 {
        let units = self.units[offer as usize];
        let terms = &self.terms.offers()[offer as usize];
        match terms.strategy() {
            // A free order takes its units at once, so nothing can be overbooked.
            Strategy::PayTime if terms.price().amount() > 0 => {
                units.available.max(0) * i64::from(terms.overbook().value()) / 100 - units.pending
            }
            Strategy::OrderTime | Strategy::PayTime | Strategy::PreDeduct => units.available,
        }
        .max(0)
    }

    /// The units that may go to another bucket: those available, less what pay-time orders waiting
    /// here need.
    pub(super) fn sendable(&self, offer: u32) -> i64 {
        let units = self.units[offer as usize];
        let overbook = i64::from(self.terms.offers()[offer as usize].overbook().value());
        (units.available - (units.pending * 100 + overbook - 1) / overbook).max(0)
    }

    /// The first rule that does not allow `quantity` more units, and how many it allows.
    pub(super) fn exceeded(
        &self,
        user: UserId,
        subjects: Subjects,
        offer: u32,
        quantity: u32,
    ) -> Option<(LimitRule, u32)> {
        self.terms.offers()[offer as usize].limits().iter().find_map(|rule| {
            let remaining = self.counters.remaining(*rule, offer, user, subjects);
            (quantity > remaining).then_some((*rule, remaining))
        })
    }

    pub(super) fn view(&self, now: Timestamp) -> View {
        let at = self.last.max(now);
        let offers: Vec<_> = (0..)
            .zip(self.terms.offers())
            .map(|(index, offer)| OfferView {
                sku: offer.sku(),
                takeable: u32::try_from(self.takeable(index)).unwrap_or(u32::MAX),
                sending: self
                    .transit
                    .values()
                    .filter(|transfer| transfer.sku == offer.sku())
                    .map(|transfer| transfer.units)
                    .sum(),
            })
            .collect();
        let window = self.terms.window();
        let on_sale = self.selling == Selling::On
            && (window.starts_at()..window.ends_at()).contains(&at)
            && offers.iter().all(|offer| offer.takeable > 0);
        View {
            lane: self.lane,
            epoch: self.epoch,
            version: self.version,
            at,
            selling: self.selling,
            terms: Arc::clone(&self.terms),
            buyers: (!on_sale).then(|| self.buyers.clone()),
            offers,
        }
    }

    /// Changes the state by an event of this lane. `at` is its time, `revision` its sequence.
    pub(super) fn apply(&mut self, at: Timestamp, revision: u64, event: &Event) -> Result<(), CorruptState> {
        self.version += 1;
        self.now = at;
        match event {
            Event::Opened(_) | Event::Reopened | Event::EpochTaken => Ok(()),
            Event::Amended { .. } if self.lane.bucket > 0 && mutant!("lane-0-only") => Ok(()),
            Event::Amended { id, change, by } => {
                self.changes.insert(*id, (change.clone(), by.clone()));
                self.renew_terms()
            }
            Event::Adjusted { id, sku, delta, .. } => {
                let units = self.units_of(*sku)?;
                units.adjusted += delta;
                units.available += delta;
                self.adjustments.insert(id.clone(), (*sku, *delta));
                Ok(())
            }
            Event::AdjustmentRefused { id, sku } => {
                // Only a gate that applied the adjustment has units to give back.
                if let Some((_, delta)) = self.adjustments.remove(id) {
                    let units = self.units_of(*sku)?;
                    units.adjusted -= delta;
                    units.available -= delta;
                }
                Ok(())
            }
            Event::Sent(transfer) => {
                let units = self.units_of(transfer.sku)?;
                units.available -= i64::from(transfer.units);
                units.sent += i64::from(transfer.units);
                self.sent.insert(transfer.to, transfer.number);
                if !mutant!("transfer-not-kept") {
                    self.transit.insert((transfer.to, transfer.number), *transfer);
                }
                Ok(())
            }
            Event::Received(transfer) => {
                let units = self.units_of(transfer.sku)?;
                units.available += i64::from(transfer.units);
                units.received += i64::from(transfer.units);
                self.received.insert(transfer.from, transfer.number);
                Ok(())
            }
            Event::Forgotten(transfer) => {
                self.transit.remove(&(transfer.to, transfer.number));
                Ok(())
            }
            Event::Order { id, user, change } => self.change_order(revision, *id, *user, change),
            Event::TimeStepped { id, by_ms, to, .. } => {
                self.steps.insert(*id);
                if !mutant!("time-step-leaves-the-lane-ahead") {
                    self.last = *to;
                }
                // A gate follows the truth's deadlines; its own step only moves its time.
                if self.role != LedgerRole::Gate {
                    self.move_deadlines(revision, *by_ms);
                }
                Ok(())
            }
        }
    }

    /// Applies all changes to the original terms, in the order of their numbers.
    pub(super) fn renew_terms(&mut self) -> Result<(), CorruptState> {
        let changes = self.changes.values().map(|(change, _)| change);
        self.terms =
            self.base.changed_by(changes).map_err(|_| CorruptState("a change does not fit the terms"))?;
        self.selling = Selling::On;
        for (change, _) in self.changes.values() {
            if let Change::Selling(next) = change
                && self.selling != Selling::Ended
            {
                self.selling = *next;
            }
        }
        let new = self.counters.count_for(&self.terms);
        if !new.is_empty() {
            let counted = self.orders.iter().filter(|(_, row)| row.status.counts_for_limits());
            counted.for_each(|(_, row)| self.counters.add_to(row, |kind| new.contains(&kind)));
        }
        Ok(())
    }

    pub(super) fn units_of(&mut self, sku: SkuId) -> Result<&mut Units, CorruptState> {
        let index = self.index(sku)?;
        Ok(&mut self.units[index as usize])
    }

    pub(super) fn index(&self, sku: SkuId) -> Result<u32, CorruptState> {
        let index = self.terms.index(sku).ok_or(CorruptState("the offer is unknown"))?;
        u32::try_from(index).map_err(|_| CorruptState("too many offers"))
    }
}
