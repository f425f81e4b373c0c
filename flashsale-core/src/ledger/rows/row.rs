//! What a store of rows keeps of a lane, and what is read and written of it at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{PaymentId, SkuId, Subject, Timestamp, UserId},
    ledger::AdjustmentId,
};

/// The name of a row in its lane. Its value is opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RowKey {
    /// Position, time, epoch, transfers and consumers of the lane, and what a gate is loading. Changes with
    /// nearly every commit.
    Head,
    /// The terms with which the lane opened, and every change of them.
    Terms,
    /// The units of an offer.
    Units(SkuId),
    /// What is counted for a limit per device or address: the digest of the subject, and the offer, or
    /// `None` for the whole activity.
    Counter(Subject, u64, Option<SkuId>),
    /// An adjustment.
    Adjustment(AdjustmentId),
    /// The owner of a payment.
    Payment(PaymentId),
    /// That there is a receipt of this provider's event or transaction, by digest.
    Capture(u128),
    /// Captures of a payment that nobody has opened.
    Kept(PaymentId),
    /// The consumers of lanes that open. Only in the lane of the ledger itself.
    Consumers,
}

/// The rows that one step reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Rows by name.
    pub keys: BTreeSet<RowKey>,
    /// Buyers, with all their orders.
    pub buyers: BTreeSet<UserId>,
    /// The buyers of so many orders that are due first, with all their orders.
    pub due: usize,
    /// All buyers of the lane. Rare: steps of the clock, and limits that nobody has counted yet.
    pub all_buyers: bool,
    /// One entry of the outbox, by sequence.
    pub entry: Option<u64>,
}

impl Needs {
    /// Adds more. Returns whether any of it is new.
    pub fn add(&mut self, more: Self) -> bool {
        let before = self.clone();
        self.keys.extend(more.keys);
        self.buyers.extend(more.buyers);
        self.due = self.due.max(more.due);
        self.all_buyers |= more.all_buyers;
        self.entry = self.entry.or(more.entry);
        *self != before
    }
}

/// Rows of a lane, all of one moment.
#[derive(Clone, Debug, Default)]
pub struct Excerpt {
    /// The version that the last commit gave the lane; 0 for one that is not there.
    pub version: u64,
    /// Those of the rows asked for that are there.
    pub rows: HashMap<RowKey, Vec<u8>>,
    /// Orders of the buyers asked for, in the order in which they were placed. Buyers without orders may
    /// be missing.
    pub orders: HashMap<UserId, Vec<OrderRow>>,
    /// The entry asked for, if it is still kept.
    pub entry: Option<Vec<u8>>,
}

/// An order as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Its number in the lane, from 1, in the order in which orders came into it.
    pub number: u64,
    /// When it is due, for the lane's list of deadlines; ties are in the order of numbers.
    pub due: Option<Timestamp>,
    /// Whether a refund of it can be sent, for the lane's list of refunds.
    pub is_owed: bool,
    /// The order, opaque to the store.
    pub value: Vec<u8>,
}

/// What one step writes, all at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The version that the lane must still have.
    pub version: u64,
    /// The version that the lane gets: at random and never 0, so none comes back, even after the store has
    /// lost commits.
    pub next: u64,
    /// Whether all rows, orders and entries of the lane are removed first. Only when a gate loads its content.
    pub clear: bool,
    /// Rows that change; `None` removes one.
    pub rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    /// Orders that are new or change, by owner.
    pub orders: Vec<(UserId, OrderRow)>,
    /// Entries of the outbox that are added, with their sequences.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// Entries with lower sequences are no longer needed.
    pub trim: Option<u64>,
}

impl Changes {
    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.clear
            && self.rows.is_empty()
            && self.orders.is_empty()
            && self.entries.is_empty()
            && self.trim.is_none()
    }
}
