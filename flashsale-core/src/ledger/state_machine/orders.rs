//! The orders of a lane, and how they are found.
//!
//! Orders live in rows of fixed size that never move. Every index holds four-byte row ids. An
//! unpaid order takes about 270 bytes with all its indices, and no step of an order walks over
//! other buyers' orders.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable, hash_table::Entry};

use super::room;

use crate::{
    domain::{
        Capture, Idempotency, Key, Money, Nonce, Order, OrderId, OrderKey, OrderStatus, Payment, PaymentId,
        PaymentStatus, Provider, Quantity, Receipt, RefundOrder, RefundStatus, ReversalReport, Subjects,
        Timestamp, UserId, order::has_open_dispute,
    },
    ledger::{Lane, Placed},
};

/// The number of an order in its lane, by insertion.
pub(super) type RowId = u32;

/// No order, or one that is not in memory.
pub(super) const NONE: RowId = RowId::MAX;
const CHUNK: usize = 4_096;

/// Up to this many orders of one user are searched for keys and nonces one by one. Hardly any user
/// has more, and an index for everyone would cost a cache miss per order.
const WALKED: u32 = 8;

/// An order as the lane keeps it.
#[derive(Clone, Debug)]
pub(super) struct OrderRow {
    pub(super) id: OrderId,
    pub(super) user: UserId,
    idempotency: Idempotency,
    has_idempotency: bool,
    pub(super) status: OrderStatus,
    pub(super) persisted: bool,
    pub(super) units_returned: u32,
    pub(super) offer: u32,
    pub(super) quantity: Quantity,
    /// The user's previous order.
    previous: RowId,
    /// How many orders of the user came before.
    before: u32,
    amount: u64,
    pub(super) placed_at: Timestamp,
    /// [`Timestamp::MAX`] for none.
    pub(super) deadline: Timestamp,
    /// The time under which the lane's deadline index holds it; [`Timestamp::MAX`] if it does not.
    pub(super) due: Timestamp,
    pub(super) revision: u64,
    pub(super) extra: Option<Box<Extra>>,
}

/// Parts that few orders have.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    pub(super) subjects: Subjects,
    pub(super) payments: Vec<Payment>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) reversals: Vec<ReversalReport>,
    pub(super) refund_orders: Vec<RefundOrder>,
    pub(super) replaces: Option<OrderId>,
    pub(super) replaced_by: Option<OrderId>,
}

impl OrderRow {
    /// An empty order, for [`Orders::prefault`].
    fn blank(id: OrderId, user: UserId) -> Self {
        Self {
            id,
            user,
            idempotency: Idempotency { key: Key(0), nonce: Nonce(0) },
            has_idempotency: false,
            status: OrderStatus::Refused,
            persisted: false,
            units_returned: 0,
            offer: 0,
            quantity: Quantity::ONE,
            previous: NONE,
            before: 0,
            amount: 0,
            placed_at: Timestamp::EPOCH,
            deadline: Timestamp::MAX,
            due: Timestamp::MAX,
            revision: 0,
            extra: None,
        }
    }

    pub(super) fn subjects(&self) -> Subjects {
        self.extra.as_ref().map(|extra| extra.subjects).unwrap_or_default()
    }

    pub(super) fn idempotency(&self) -> Option<Idempotency> {
        self.has_idempotency.then_some(self.idempotency)
    }

    fn made_by_key(&self, user: UserId, key: Key) -> bool {
        self.user == user && self.has_idempotency && self.idempotency.key == key
    }

    fn made_by_nonce(&self, user: UserId, nonce: Nonce) -> bool {
        self.user == user && self.has_idempotency && self.idempotency.nonce == nonce
    }

    /// The units of the order without those that were returned after it was paid.
    pub(super) fn units(&self) -> i64 {
        self.units_left().into()
    }

    pub(super) fn units_left(&self) -> u32 {
        self.quantity.value().saturating_sub(self.units_returned)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn payments(&self) -> &[Payment] {
        self.extra.as_ref().map_or(&[], |extra| &extra.payments)
    }

    pub(super) fn receipts(&self) -> &[Receipt] {
        self.extra.as_ref().map_or(&[], |extra| &extra.receipts)
    }

    pub(super) fn receipts_mut(&mut self) -> &mut [Receipt] {
        self.extra.as_mut().map_or(&mut [], |extra| &mut extra.receipts)
    }

    pub(super) fn reversals(&self) -> &[ReversalReport] {
        self.extra.as_ref().map_or(&[], |extra| &extra.reversals)
    }

    /// Adds a report, unless the order has it: one that replaced another may have taken it over.
    pub(super) fn add_reversal(&mut self, report: &ReversalReport) {
        if !self.reversals().contains(report) {
            self.extra_mut().reversals.push(report.clone());
        }
    }

    pub(super) fn payment_mut(&mut self, id: PaymentId) -> Option<&mut Payment> {
        self.extra.as_mut()?.payments.iter_mut().find(|payment| payment.id == id)
    }

    /// Does nothing if the order has no such payment.
    pub(super) fn set_payment_status(&mut self, id: PaymentId, status: PaymentStatus) {
        if let Some(payment) = self.payment_mut(id) {
            payment.status = status;
        }
    }

    pub(super) fn amount(&self) -> u64 {
        self.amount
    }

    /// The refunds that can be sent now, with their receipts and numbers. None is sent for a payment
    /// while a dispute of it is open.
    pub(super) fn refunds_due(&self) -> impl Iterator<Item = (&Receipt, usize)> {
        let may_go = |receipt: &&Receipt| {
            !has_open_dispute(self.reversals(), receipt.capture.payment) || mutant!("refund-while-disputed")
        };
        self.receipts().iter().filter(may_go).flat_map(|receipt| {
            let due = receipt.refunds.iter().enumerate();
            due.filter(|(_, refund)| refund.status == RefundStatus::Due)
                .map(move |(number, _)| (receipt, number))
        })
    }
}

/// All orders of a lane.
#[derive(Clone, Default)]
pub(super) struct Orders {
    chunks: Vec<Vec<OrderRow>>,
    len: RowId,
    /// Orders by status.
    pub(super) statuses: [u64; OrderStatus::ALL.len()],
    by_id: HashTable<RowId>,
    by_user: HashTable<RowId>,
    /// Only users with more than [`WALKED`] orders.
    by_key: HashTable<RowId>,
    by_nonce: HashTable<RowId>,
    /// Also payments whose orders are not in memory.
    by_payment: HashMap<PaymentId, (UserId, OrderId)>,
    /// (provider, transaction) and (provider, event) of captures, as digests.
    by_capture: HashMap<u128, RowId>,
    hasher: DefaultHashBuilder,
}

impl Orders {
    /// The number of open orders.
    pub(super) fn open(&self) -> u64 {
        OrderStatus::ALL
            .iter()
            .zip(self.statuses)
            .filter(|(status, _)| status.is_open())
            .map(|(_, count)| count)
            .sum()
    }

    /// Reserves memory, so that no index has to grow during a sale.
    pub(super) fn reserve(&mut self, orders: usize) {
        let more = orders.saturating_sub(self.len());
        let Self { chunks, by_id, by_user, hasher, .. } = self;
        let at = |row: RowId| &chunks[row as usize / CHUNK][row as usize % CHUNK];
        by_id.reserve(more, |row| hasher.hash_one(at(*row).id));
        by_user.reserve(more, |row| hasher.hash_one(at(*row).user));
    }

    /// Writes once to the memory of the indices and of the first `orders` rows. Only for an empty
    /// lane.
    pub(super) fn prefault(&mut self, orders: usize) {
        let Self { chunks, by_id, by_user, hasher, .. } = self;
        for table in [by_id, by_user] {
            let hash = |row: &RowId| hasher.hash_one(row);
            (0..RowId::try_from(table.capacity()).unwrap_or(0)).for_each(|row| {
                table.insert_unique(hash(&row), row, hash);
            });
            table.clear();
        }
        let blank = || OrderRow::blank(OrderId::new(1).expect("an id"), UserId::new(1).expect("an id"));
        while chunks.len() < orders.div_ceil(CHUNK) {
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.resize_with(CHUNK, blank);
            chunk.clear();
            chunks.push(chunk);
        }
    }

    /// Takes out the memory of rows that were never used.
    pub(super) fn take_empty_chunks(&mut self) -> Vec<Vec<OrderRow>> {
        self.chunks.split_off(self.len().div_ceil(CHUNK))
    }

    /// Replaces a sparse index by a smaller one. Returns the old one; `None` if none is sparse.
    pub(super) fn shrink_index(&mut self) -> Option<HashTable<RowId>> {
        let Self { chunks, by_id, by_user, hasher, .. } = self;
        let at = |row: RowId| &chunks[row as usize / CHUNK][row as usize % CHUNK];
        shrunk(by_id, |row| hasher.hash_one(at(*row).id))
            .or_else(|| shrunk(by_user, |row| hasher.hash_one(at(*row).user)))
    }

    /// The memory that rows and indices have, in bytes.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        let rows: usize = self.chunks.iter().map(Vec::capacity).sum();
        rows * size_of::<OrderRow>() + self.by_id.allocation_size() + self.by_user.allocation_size()
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The order that was inserted last.
    pub(super) fn latest(&self) -> Option<RowId> {
        self.len.checked_sub(1)
    }

    pub(super) fn row(&self, id: RowId) -> &OrderRow {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    pub(super) fn row_mut(&mut self, id: RowId) -> &mut OrderRow {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RowId, &OrderRow)> {
        self.from(0)
    }

    /// The orders after the first `skipped`, by insertion.
    pub(super) fn from(&self, skipped: usize) -> impl Iterator<Item = (RowId, &OrderRow)> {
        let skipped = RowId::try_from(skipped).unwrap_or(RowId::MAX);
        (skipped..self.len).map(|row| (row, self.row(row)))
    }

    /// Counts an order under its current status instead of its previous one.
    pub(super) fn recount(&mut self, id: RowId, was: OrderStatus) {
        let status = self.row(id).status;
        self.statuses[was as usize] -= 1;
        self.statuses[status as usize] += 1;
    }

    /// The orders with this id: one of each user at most, and of one user unless two generators share a
    /// worker id.
    pub(super) fn with_id(&self, id: OrderId) -> impl Iterator<Item = RowId> + '_ {
        self.by_id.iter_hash(self.hash(&id)).copied().filter(move |row| self.row(*row).id == id)
    }

    /// The user's order with this id.
    pub(super) fn by_owner(&self, user: UserId, id: OrderId) -> Option<RowId> {
        let is_it = |row: &RowId| (self.row(*row).id, self.row(*row).user) == (id, user);
        self.by_id.find(self.hash(&id), is_it).copied()
    }

    /// The first order made with this key.
    pub(super) fn by_key(&self, user: UserId, key: Key) -> Option<RowId> {
        let last = self.last_of(user)?;
        let same = |row: &RowId| self.row(*row).made_by_key(user, key);
        if self.is_walked(last) {
            return self.before(Some(last)).filter(same).last();
        }
        self.by_key.find(self.hash(&(user, key)), same).copied()
    }

    /// The first order made with this nonce.
    pub(super) fn by_nonce(&self, user: UserId, nonce: Nonce) -> Option<RowId> {
        let last = self.last_of(user)?;
        let same = |row: &RowId| self.row(*row).made_by_nonce(user, nonce);
        if self.is_walked(last) {
            return self.before(Some(last)).filter(same).last();
        }
        self.by_nonce.find(self.hash(&(user, nonce)), same).copied()
    }

    /// The owner of a payment.
    pub(super) fn by_payment(&self, payment: PaymentId) -> Option<(UserId, OrderId)> {
        self.by_payment.get(&payment).copied()
    }

    /// The order with a receipt of this event or transaction.
    pub(super) fn by_capture(&self, capture: &Capture) -> Option<RowId> {
        let [event, transaction] = capture_digests(capture);
        self.by_capture.get(&event).or_else(|| self.by_capture.get(&transaction)).copied()
    }

    /// The orders of a user, latest first.
    pub(super) fn of_user(&self, user: UserId) -> impl Iterator<Item = RowId> + '_ {
        self.before(self.last_of(user))
    }

    fn last_of(&self, user: UserId) -> Option<RowId> {
        let hash = self.hash(&user);
        self.by_user.find(hash, |row| self.row(*row).user == user).copied()
    }

    /// This order and the user's earlier ones, latest first.
    fn before(&self, last: Option<RowId>) -> impl Iterator<Item = RowId> + '_ {
        std::iter::successors(last, |row| {
            let previous = self.row(*row).previous;
            (previous != NONE).then_some(previous)
        })
    }

    /// Whether a user with this latest order has too few orders to be in the indices.
    fn is_walked(&self, last: RowId) -> bool {
        self.row(last).before < WALKED
    }

    /// Adds an order. A repeated key or nonce still finds the first order.
    pub(super) fn insert(
        &mut self,
        id: OrderId,
        user: UserId,
        offer: u32,
        placed: &Placed,
        status: OrderStatus,
        revision: u64,
    ) -> RowId {
        let row_id = self.len;
        let blank = OrderRow::blank(id, user);
        let extra = (placed.subjects != Subjects::default())
            .then(|| Box::new(Extra { subjects: placed.subjects, ..Extra::default() }));
        let row = OrderRow {
            idempotency: placed.idempotency.unwrap_or(blank.idempotency),
            has_idempotency: placed.idempotency.is_some(),
            status,
            persisted: true,
            offer,
            quantity: placed.quantity,
            amount: placed.amount.amount(),
            placed_at: placed.placed_at,
            deadline: placed.deadline.unwrap_or(Timestamp::MAX),
            revision,
            extra,
            ..blank
        };
        let chunk = row_id as usize / CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[chunk].push(row);
        self.len += 1;
        self.statuses[status as usize] += 1;

        let Self { chunks, by_id, by_user, hasher, .. } = self;
        let at = |row: RowId| &chunks[row as usize / CHUNK][row as usize % CHUNK];
        by_id.insert_unique(hasher.hash_one(id), row_id, |row| hasher.hash_one(at(*row).id));
        let entry = by_user.entry(
            hasher.hash_one(user),
            |row| at(*row).user == user,
            |row| hasher.hash_one(at(*row).user),
        );
        match entry {
            Entry::Occupied(mut entry) => {
                let previous = std::mem::replace(entry.get_mut(), row_id);
                self.follow(previous, row_id);
            }
            Entry::Vacant(entry) => {
                entry.insert(row_id);
            }
        }
        row_id
    }

    /// Links `next` as the user's order after `previous`.
    fn follow(&mut self, previous: RowId, next: RowId) {
        let before = self.row(previous).before + 1;
        let row = self.row_mut(next);
        row.previous = previous;
        row.before = before;
        if before == WALKED && !mutant!("keys-lost-in-many-orders") {
            let mut all: Vec<_> = self.before(Some(next)).collect();
            all.reverse();
            all.into_iter().for_each(|row| self.index(row));
        } else if before > WALKED {
            self.index(next);
        }
    }

    /// Adds an order to the indices of keys and nonces, unless an earlier order holds its entry.
    fn index(&mut self, row_id: RowId) {
        let Self { chunks, by_key, by_nonce, hasher, .. } = self;
        let at = |row: &RowId| &chunks[*row as usize / CHUNK][*row as usize % CHUNK];
        let row = at(&row_id);
        let Some(Idempotency { key, nonce }) = row.idempotency() else { return };
        let user = row.user;
        let hash_key = |row: &RowId| hasher.hash_one((at(row).user, at(row).idempotency.key));
        let hash_nonce = |row: &RowId| hasher.hash_one((at(row).user, at(row).idempotency.nonce));
        let same_key = |row: &RowId| at(row).made_by_key(user, key);
        by_key.entry(hash_key(&row_id), same_key, hash_key).or_insert(row_id);
        let same_nonce = |row: &RowId| at(row).made_by_nonce(user, nonce);
        by_nonce.entry(hash_nonce(&row_id), same_nonce, hash_nonce).or_insert(row_id);
    }

    pub(super) fn add_payment(&mut self, row: RowId, payment: Payment) {
        let OrderRow { user, id, .. } = *self.row(row);
        self.by_payment.insert(payment.id, (user, id));
        self.row_mut(row).extra_mut().payments.push(payment);
    }

    pub(super) fn add_receipt(&mut self, row: RowId, receipt: Receipt) {
        for digest in capture_digests(&receipt.capture) {
            self.by_capture.entry(digest).or_insert(row);
        }
        self.row_mut(row).extra_mut().receipts.push(receipt);
    }

    /// Records the owner of a payment, whose order may not be in memory.
    pub(super) fn note_payment(&mut self, payment: PaymentId, owner: (UserId, OrderId)) {
        self.by_payment.insert(payment, owner);
    }

    /// Records a capture whose order may not be in memory.
    pub(super) fn note_capture(&mut self, digest: u128) {
        self.by_capture.entry(digest).or_insert(NONE);
    }

    pub(super) fn has_capture(&self, digest: u128) -> bool {
        self.by_capture.contains_key(&digest)
    }

    /// The order as callers see it.
    pub(super) fn order(&self, lane: Lane, row: RowId, terms: &crate::ledger::Terms) -> Order {
        let row = self.row(row);
        let offer = &terms.offers()[row.offer as usize];
        let extra = row.extra.as_deref();
        Order {
            key: OrderKey { activity: lane.activity, user: row.user, id: row.id },
            sku: offer.sku(),
            quantity: row.quantity,
            amount: Money::new(row.amount, offer.price().currency()).unwrap_or_else(|_| offer.price()),
            status: row.status,
            persisted: row.persisted,
            idempotency: row.idempotency(),
            subjects: row.subjects(),
            placed_at: row.placed_at,
            deadline: (row.deadline != Timestamp::MAX).then_some(row.deadline),
            payments: extra.map(|extra| extra.payments.clone()).unwrap_or_default(),
            receipts: extra.map(|extra| extra.receipts.clone()).unwrap_or_default(),
            replaces: extra.and_then(|extra| extra.replaces),
            replaced_by: extra.and_then(|extra| extra.replaced_by),
            units_returned: row.units_returned,
            reversals: extra.map(|extra| extra.reversals.clone()).unwrap_or_default(),
            refund_orders: extra.map(|extra| extra.refund_orders.clone()).unwrap_or_default(),
            revision: row.revision,
        }
    }

    fn hash<T: Hash>(&self, value: &T) -> u64 {
        self.hasher.hash_one(value)
    }
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} orders", self.len)
    }
}

/// The memory of the rows of this many orders, and of the indices that hold all of them, in bytes.
pub(super) fn room_bytes(orders: usize) -> usize {
    orders.next_multiple_of(CHUNK) * size_of::<OrderRow>() + 2 * room::table_bytes::<RowId>(orders)
}

/// Replaces an index by one that is as large as it has to be, if it is sparse. Returns the old one.
fn shrunk(index: &mut HashTable<RowId>, hash: impl Fn(&RowId) -> u64) -> Option<HashTable<RowId>> {
    if !room::is_sparse(index.len(), index.capacity()) {
        return None;
    }
    let mut smaller = HashTable::with_capacity(index.len());
    for row in &*index {
        smaller.insert_unique(hash(row), *row, &hash);
    }
    Some(std::mem::replace(index, smaller))
}

/// Digests of a capture's event and transaction, each with its provider.
pub(super) fn capture_digests(capture: &Capture) -> [u128; 2] {
    let digest = |kind: u8, provider: &Provider, id: &str| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(provider.as_str().as_bytes()).update(&[0]).update(id.as_bytes());
        hasher.finalize().as_bytes()[..16].iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
    };
    [digest(0, &capture.provider, &capture.event), digest(1, &capture.provider, &capture.transaction)]
}
