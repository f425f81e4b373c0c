//! One lane: its state, and how an event changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};

use super::orders::{Orders, RowId};
use crate::{
    domain::{
        Attribution, LimitRule, Order, OrderId, OrderStatus, Payment, PaymentStatus, Per, Proceeds, Receipt,
        Refund, RefundReason, RefundStatus, Selling, SkuId, Strategy, Subject, Subjects, Timestamp, UserId,
    },
    ledger::{
        AdjustmentId, Bucket, BuyerFilter, Change, ChangeId, Event, Lane, LedgerRole, OfferView, OrderChange,
        Placed, Position, Terms, Transfer, View,
    },
};

/// The events of a lane do not fit together: the journal or the content is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event does not fit the state of its lane: {0}")]
pub struct CorruptState(pub &'static str);

/// The units of one offer in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// Units with which the lane began.
    pub(super) share: i64,
    pub(super) adjusted: i64,
    pub(super) sent: i64,
    pub(super) received: i64,
    /// Negative only at a gate, which then owes units.
    pub(super) available: i64,
    pub(super) held: i64,
    pub(super) sold: i64,
    /// Units that pending orders wait for under the pay-time strategy.
    pub(super) pending: i64,
}

/// What a limit counts: a subject, and an offer or the whole activity. Of twelve bytes, for there is one per buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counter {
    id: [u32; 2],
    /// The offer's index, or 2^30 - 1; above that the subject.
    what: u32,
}

const WHOLE_ACTIVITY: u32 = (1 << 30) - 1;

impl Counter {
    /// `offer` is an index, or [`WHOLE_ACTIVITY`].
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a number")]
    fn new(subject: Subject, id: u64, offer: u32) -> Self {
        let subject = match subject {
            Subject::User => 0,
            Subject::Device => 1,
            Subject::Address => 2,
        };
        Self { id: [(id >> 32) as u32, id as u32], what: subject << 30 | offer }
    }

    pub(super) fn subject(self) -> Subject {
        match self.what >> 30 {
            0 => Subject::User,
            1 => Subject::Device,
            _ => Subject::Address,
        }
    }

    pub(super) fn id(self) -> u64 {
        u64::from(self.id[0]) << 32 | u64::from(self.id[1])
    }

    /// The index of the offer; `None` for the whole activity.
    pub(super) fn offer(self) -> Option<usize> {
        let offer = self.what & WHOLE_ACTIVITY;
        (offer != WHOLE_ACTIVITY).then_some(offer as usize)
    }
}

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
    /// The position of the last entry.
    pub(super) head: Position,
    /// What a gate has followed of its truth.
    pub(super) followed: Position,
    pub(super) version: u64,
    pub(super) units: Vec<Units>,
    pub(super) orders: Orders,
    pub(super) counters: HashMap<Counter, u32>,
    counted: HashSet<(Subject, Per)>,
    pub(super) deadlines: BTreeSet<(Timestamp, RowId)>,
    pub(super) refunds: BTreeSet<RowId>,
    pub(super) adjustments: BTreeMap<AdjustmentId, (SkuId, i64)>,
    pub(super) transit: BTreeMap<(Bucket, u64), Transfer>,
    pub(super) sent: BTreeMap<Bucket, u64>,
    pub(super) received: BTreeMap<Bucket, u64>,
    buyers: BuyerFilter,
}

/// The most orders that a lane makes room for when it opens; 400 MB with their slots.
const MAX_ROOM: usize = 2_000_000;

impl LaneState {
    pub(super) fn new(lane: Lane, role: LedgerRole, base: Arc<Terms>) -> Self {
        let share = |offer: &_| match role {
            LedgerRole::Truth => i64::from(crate::domain::OfferTerms::units(offer)),
            LedgerRole::Single | LedgerRole::Gate => base.share(offer, lane.bucket).into(),
        };
        let units: Vec<_> = base
            .offers()
            .iter()
            .map(|offer| Units { share: share(offer), available: share(offer), ..Units::default() })
            .collect();
        let room = room(&units);
        let mut orders = Orders::default();
        orders.reserve(room);
        let mut state = Self {
            lane,
            role,
            terms: Arc::clone(&base),
            base,
            selling: Selling::On,
            changes: BTreeMap::new(),
            last: Timestamp::EPOCH,
            head: Position::default(),
            followed: Position::default(),
            version: 0,
            units,
            orders,
            counters: HashMap::new(),
            counted: HashSet::new(),
            deadlines: BTreeSet::new(),
            refunds: BTreeSet::new(),
            adjustments: BTreeMap::new(),
            transit: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            buyers: BuyerFilter::with_room(room),
        };
        state.counted = state.rules();
        if state.counted.contains(&(Subject::User, Per::Offer))
            || state.counted.contains(&(Subject::User, Per::Activity))
        {
            state.counters.reserve(room);
        }
        state
    }

    /// Writes once to the memory of a new lane. The system gives memory when it is first written to, at 0.2 to 30 µs for
    /// each 4 KiB (measured on a virtual machine), which buyers of the first seconds would wait for.
    pub(super) fn prefault(&mut self) {
        self.orders.prefault(room(&self.units));
        (0..self.counters.capacity() as u64).for_each(|id| {
            self.counters.insert(Counter::new(Subject::User, id, 0), 0);
        });
        self.counters.clear();
        self.buyers.prefault();
    }

    /// The time of a decision that is made now.
    pub(super) fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.last = self.last.max(now);
        self.last
    }

    pub(super) fn order(&self, row: RowId) -> Order {
        self.orders.order(self.lane, row, &self.terms)
    }

    /// The slot of an order, if this user owns it.
    pub(super) fn owned(&self, user: UserId, id: OrderId) -> Option<RowId> {
        self.orders.by_id(id).filter(|row| self.orders.row(*row).user == user || mutant!("owner-ignored"))
    }

    pub(super) fn strategy(&self, offer: u32) -> Strategy {
        self.terms.offers()[offer as usize].strategy()
    }

    /// Units that one more order could ask for.
    pub(super) fn takeable(&self, offer: u32) -> i64 {
        let units = self.units[offer as usize];
        let terms = &self.terms.offers()[offer as usize];
        match terms.strategy() {
            Strategy::PayTime => {
                units.available.max(0) * i64::from(terms.overbook().value()) / 100 - units.pending
            }
            Strategy::OrderTime | Strategy::PreDeduct => units.available,
        }
        .max(0)
    }

    /// Units that can go to another bucket: what is available, less what the bound of the pay-time strategy needs for the
    /// orders that wait here.
    pub(super) fn sendable(&self, offer: u32) -> i64 {
        let units = self.units[offer as usize];
        let overbook = i64::from(self.terms.offers()[offer as usize].overbook().value());
        (units.available - (units.pending * 100 + overbook - 1) / overbook).max(0)
    }

    /// The first rule that does not allow `quantity` more, and how many it allows.
    pub(super) fn exceeded(
        &self,
        user: UserId,
        subjects: Subjects,
        offer: u32,
        quantity: u32,
    ) -> Option<(LimitRule, u32)> {
        self.terms.offers()[offer as usize].limits().iter().find_map(|rule| {
            let remaining = match counter(*rule, user, subjects, offer) {
                Some(counter) => rule.max().saturating_sub(self.counters.get(&counter).copied().unwrap_or(0)),
                None => 0,
            };
            (quantity > remaining).then_some((*rule, remaining))
        })
    }

    pub(super) fn view(&self, epoch: crate::ledger::Epoch, now: Timestamp) -> View {
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
            epoch,
            version: self.version,
            at,
            selling: self.selling,
            window,
            buyers: (!on_sale).then(|| self.buyers.clone()),
            offers,
        }
    }

    /// Changes the state by an event of this lane. `revision` is its sequence.
    pub(super) fn apply(&mut self, revision: u64, event: &Event) -> Result<(), CorruptState> {
        self.version += 1;
        match event {
            Event::Opened(_) | Event::Reopened | Event::EpochTaken => Ok(()),
            Event::Amended { id, change, by } => self.amend(*id, change, by),
            Event::Adjusted { id, sku, delta, .. } => {
                let units = self.units_of(*sku)?;
                units.adjusted += delta;
                units.available += delta;
                self.adjustments.insert(id.clone(), (*sku, *delta));
                Ok(())
            }
            Event::AdjustmentRefused { id, sku } => {
                // Only a gate that took the units has something to give back.
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
            Event::Order { id, user, change } => self.change(revision, *id, *user, change),
        }
    }

    /// Adds an order that was decided elsewhere, with everything that it has come to.
    pub(super) fn insert(&mut self, order: &Order) -> Result<(), CorruptState> {
        let offer = self.index(order.sku)?;
        let placed = Placed {
            sku: order.sku,
            quantity: order.quantity,
            amount: order.amount,
            idempotency: order.idempotency,
            subjects: order.subjects,
            placed_at: order.placed_at,
            deadline: order.deadline,
        };
        let user = order.key.user;
        let row = self.orders.insert(order.key.id, user, offer, &placed, order.status, order.revision);
        self.buyers.insert(user);
        self.orders.row_mut(row).persisted = order.persisted;
        self.orders.row_mut(row).units_returned = order.units_returned;
        for payment in &order.payments {
            self.orders.add_payment(row, payment.clone());
        }
        for receipt in &order.receipts {
            self.orders.add_receipt(row, receipt.clone());
        }
        if order.replaces.is_some() || order.replaced_by.is_some() {
            let extra = self.orders.row_mut(row).extra_mut();
            extra.replaces = order.replaces;
            extra.replaced_by = order.replaced_by;
        }
        let quantity = i64::from(order.quantity.value());
        let pay_time = self.strategy(offer) == Strategy::PayTime;
        let units = &mut self.units[offer as usize];
        match order.status {
            OrderStatus::Pending if pay_time => units.pending += quantity,
            OrderStatus::Pending | OrderStatus::Paying => {
                units.available -= quantity;
                units.held += quantity;
            }
            OrderStatus::Paid if !order.units_returned => {
                units.available -= quantity;
                units.sold += quantity;
            }
            OrderStatus::Paid | OrderStatus::Cancelled | OrderStatus::Expired | OrderStatus::Refused => {}
        }
        if self.orders.row(row).counts() {
            self.count(row, true);
        }
        if self.orders.row(row).has_refund_due() {
            self.refunds.insert(row);
        }
        match order.status {
            OrderStatus::Pending => self.set_due(row, order.deadline.unwrap_or(Timestamp::MAX)),
            OrderStatus::Paying => {
                let deadline = order.payment().map_or(Timestamp::MAX, |payment| payment.deadline);
                self.set_due(row, deadline);
            }
            _ => {}
        }
        Ok(())
    }

    fn change(
        &mut self,
        revision: u64,
        id: OrderId,
        user: UserId,
        change: &OrderChange,
    ) -> Result<(), CorruptState> {
        match change {
            OrderChange::Placed(placed) => {
                self.place(revision, id, user, placed, OrderStatus::Pending)?;
                return Ok(());
            }
            OrderChange::Refused(placed) => {
                self.place(revision, id, user, placed, OrderStatus::Refused)?;
                return Ok(());
            }
            OrderChange::Retaken { placed, replaces, capture } => {
                let row = self.place(revision, id, user, placed, OrderStatus::Paid)?;
                self.orders.row_mut(row).extra_mut().replaces = Some(*replaces);
                self.orders.add_receipt(row, Receipt { capture: capture.clone(), proceeds: Proceeds::Paid });
                let old = self.owned(user, *replaces).ok_or(CorruptState("the replaced order is unknown"))?;
                let old = self.orders.row_mut(old);
                old.revision = revision;
                old.extra_mut().replaced_by = Some(id);
                if let Some(payment) = old.payment_mut(capture.payment) {
                    payment.status = PaymentStatus::Captured;
                }
                return Ok(());
            }
            _ => {}
        }
        let row_id = self.orders.by_id(id).ok_or(CorruptState("the order is unknown"))?;
        let row = self.orders.row_mut(row_id);
        row.revision = revision;
        let (offer, quantity, status) = (row.offer, row.units(), row.status);
        let pay_time = self.terms.offers()[offer as usize].strategy() == Strategy::PayTime;
        let units = &mut self.units[offer as usize];
        match change {
            OrderChange::PaymentOpened { payment, provider, deadline } => {
                if pay_time {
                    units.pending -= quantity;
                    units.available -= quantity;
                    units.held += quantity;
                }
                row.status = OrderStatus::Paying;
                let payment = Payment {
                    id: *payment,
                    provider: provider.clone(),
                    status: PaymentStatus::Open,
                    deadline: *deadline,
                };
                self.orders.add_payment(row_id, payment);
                self.set_due(row_id, *deadline);
            }
            OrderChange::PaymentEnded { payment, status } => {
                if pay_time {
                    units.pending += quantity;
                    if !mutant!("failed-payment-keeps-units") {
                        units.available += quantity;
                    }
                    units.held -= quantity;
                }
                row.status = OrderStatus::Pending;
                if let Some(payment) = row.payment_mut(*payment) {
                    payment.status = *status;
                }
                let deadline = row.deadline;
                self.set_due(row_id, deadline);
            }
            OrderChange::Paid(capture) => {
                if pay_time && status == OrderStatus::Pending {
                    units.pending -= quantity;
                    units.available -= quantity;
                } else {
                    units.held -= quantity;
                }
                units.sold += quantity;
                row.status = OrderStatus::Paid;
                if let Some(payment) = row.payment_mut(capture.payment) {
                    payment.status = PaymentStatus::Captured;
                }
                self.orders
                    .add_receipt(row_id, Receipt { capture: capture.clone(), proceeds: Proceeds::Paid });
                self.set_due(row_id, Timestamp::MAX);
            }
            OrderChange::RefundDue { capture, reason } => {
                if let Some(payment) = row.payment_mut(capture.payment)
                    && (payment.status != PaymentStatus::Open || status != OrderStatus::Paying)
                {
                    payment.status = PaymentStatus::Captured;
                }
                let proceeds = Proceeds::Refund(Refund { reason: *reason, status: RefundStatus::Due });
                self.orders.add_receipt(row_id, Receipt { capture: capture.clone(), proceeds });
                self.refunds.insert(row_id);
            }
            OrderChange::Refunded { units_returned, .. } => {
                for receipt in &mut row.extra_mut().receipts {
                    if receipt.proceeds == Proceeds::Paid {
                        receipt.proceeds = Proceeds::Refund(Refund {
                            reason: RefundReason::Operator,
                            status: RefundStatus::Due,
                        });
                    }
                }
                row.units_returned = *units_returned;
                if *units_returned {
                    units.sold -= quantity;
                    units.available += quantity;
                }
                self.refunds.insert(row_id);
            }
            OrderChange::RefundSettled { provider, transaction, status } => {
                for receipt in &mut row.extra_mut().receipts {
                    let same =
                        receipt.capture.provider == *provider && receipt.capture.transaction == *transaction;
                    if same && let Proceeds::Refund(refund) = &mut receipt.proceeds {
                        refund.status = *status;
                    }
                }
                if !row.has_refund_due() {
                    self.refunds.remove(&row_id);
                }
            }
            OrderChange::ClosingClaimed { retry_at } => self.set_due(row_id, *retry_at),
            OrderChange::Cancelled | OrderChange::CancelledBy(_) => self.end(row_id, OrderStatus::Cancelled),
            OrderChange::Expired => self.end(row_id, OrderStatus::Expired),
            OrderChange::Placed(_) | OrderChange::Refused(_) | OrderChange::Retaken { .. } => {}
        }
        self.orders.recount(row_id, status);
        Ok(())
    }

    fn place(
        &mut self,
        revision: u64,
        id: OrderId,
        user: UserId,
        placed: &Placed,
        status: OrderStatus,
    ) -> Result<RowId, CorruptState> {
        let offer = self.index(placed.sku)?;
        if let Some(row) = self.orders.by_id(id) {
            return self.confirm(revision, row, status);
        }
        let row = self.orders.insert(id, user, offer, placed, status, revision);
        self.orders.row_mut(row).persisted = self.role != LedgerRole::Gate;
        self.buyers.insert(user);
        let pay_time = self.strategy(offer) == Strategy::PayTime;
        let units = &mut self.units[offer as usize];
        let quantity = i64::from(placed.quantity.value());
        match status {
            OrderStatus::Pending if pay_time => units.pending += quantity,
            OrderStatus::Pending => {
                units.available -= quantity;
                units.held += quantity;
            }
            OrderStatus::Paid => {
                units.available -= quantity;
                units.sold += quantity;
            }
            _ => return Ok(row),
        }
        if !mutant!("limits-not-counted") {
            self.count(row, true);
        }
        if status == OrderStatus::Pending {
            self.set_due(row, placed.deadline.unwrap_or(Timestamp::MAX));
        }
        Ok(row)
    }

    /// A gate learns what became of an order that it admitted.
    fn confirm(&mut self, revision: u64, row: RowId, status: OrderStatus) -> Result<RowId, CorruptState> {
        if self.role != LedgerRole::Gate {
            return Err(CorruptState("the order is there already"));
        }
        let known = self.orders.row_mut(row);
        known.revision = revision;
        known.persisted = true;
        if status == OrderStatus::Refused && known.status.is_open() {
            let was = known.status;
            self.end(row, OrderStatus::Refused);
            self.orders.recount(row, was);
        }
        Ok(row)
    }

    /// An order ends unpaid: what it holds goes back, once.
    fn end(&mut self, row_id: RowId, status: OrderStatus) {
        let row = self.orders.row_mut(row_id);
        let was = row.status;
        let (offer, quantity) = (row.offer, row.units());
        row.status = status;
        if let Some(payment) = row.extra.as_mut().and_then(|extra| extra.payments.last_mut())
            && payment.status == PaymentStatus::Open
        {
            payment.status = PaymentStatus::Closed;
        }
        let pay_time = self.strategy(offer) == Strategy::PayTime;
        let units = &mut self.units[offer as usize];
        match was {
            OrderStatus::Pending if pay_time => units.pending -= quantity,
            OrderStatus::Pending | OrderStatus::Paying => {
                units.held -= quantity;
                units.available += quantity;
            }
            _ => return,
        }
        if !mutant!("limits-not-given-back") {
            self.count(row_id, false);
        }
        self.set_due(row_id, Timestamp::MAX);
    }

    pub(super) fn set_due(&mut self, row_id: RowId, due: Timestamp) {
        if self.role == LedgerRole::Gate {
            return;
        }
        let row = self.orders.row_mut(row_id);
        let before = std::mem::replace(&mut row.due, due);
        if before != Timestamp::MAX {
            self.deadlines.remove(&(before, row_id));
        }
        if due != Timestamp::MAX {
            self.deadlines.insert((due, row_id));
        }
    }

    fn amend(&mut self, id: ChangeId, change: &Change, by: &Attribution) -> Result<(), CorruptState> {
        self.changes.insert(id, (change.clone(), by.clone()));
        self.renew_terms()
    }

    /// The terms as first opened, with all changes in the order of their numbers.
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
        let rules = self.rules();
        if !rules.is_subset(&self.counted) {
            self.counted = rules;
            self.counters.clear();
            let counting: Vec<_> =
                self.orders.iter().filter(|(_, row)| row.counts()).map(|(row, _)| row).collect();
            counting.into_iter().for_each(|row| self.count(row, true));
        }
        Ok(())
    }

    fn rules(&self) -> HashSet<(Subject, Per)> {
        let rules = self.terms.offers().iter().flat_map(|offer| offer.limits());
        rules.map(|rule| (rule.subject, rule.per)).chain(self.counted.iter().copied()).collect()
    }

    /// Counts the units of an order for the limits of its subjects, or takes them back.
    fn count(&mut self, row: RowId, add: bool) {
        let row = self.orders.row(row);
        let (user, subjects, offer, quantity) = (row.user, row.subjects(), row.offer, row.quantity.value());
        for (subject, per) in &self.counted {
            let Some(id) = subject_id(*subject, user, subjects) else { continue };
            let offer = if *per == Per::Offer { offer } else { WHOLE_ACTIVITY };
            let key = Counter::new(*subject, id, offer);
            if add {
                *self.counters.entry(key).or_default() += quantity;
            } else if let Some(used) = self.counters.get_mut(&key) {
                *used = used.saturating_sub(quantity);
                if *used == 0 {
                    self.counters.remove(&key);
                }
            }
        }
    }

    fn units_of(&mut self, sku: SkuId) -> Result<&mut Units, CorruptState> {
        let index = self.index(sku)?;
        Ok(&mut self.units[index as usize])
    }

    pub(super) fn index(&self, sku: SkuId) -> Result<u32, CorruptState> {
        let index = self.terms.index(sku).ok_or(CorruptState("the offer is unknown"))?;
        u32::try_from(index).map_err(|_| CorruptState("too many offers"))
    }
}

/// How many orders a lane with these units makes room for.
fn room(units: &[Units]) -> usize {
    usize::try_from(units.iter().map(|units| units.share).sum::<i64>()).unwrap_or(0).min(MAX_ROOM)
}

fn counter(rule: LimitRule, user: UserId, subjects: Subjects, offer: u32) -> Option<Counter> {
    let id = subject_id(rule.subject, user, subjects)?;
    let offer = if rule.per == Per::Offer { offer } else { WHOLE_ACTIVITY };
    Some(Counter::new(rule.subject, id, offer))
}

fn subject_id(subject: Subject, user: UserId, subjects: Subjects) -> Option<u64> {
    match subject {
        Subject::User => Some(user.value()),
        Subject::Device => subjects.device.map(|id| id.0),
        Subject::Address => subjects.address.map(|id| id.0),
    }
}
