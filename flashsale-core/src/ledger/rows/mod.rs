//! Ledgers on stores of rows.
//!
//! A store keeps each lane as rows of opaque bytes, and implements [`Rows`]: read some, write some if the
//! lane has not changed since. [`RowLedger`] is the ledger on top of it. Every rule stays in the
//! specification: it decides on the rows that a step needs as it decides on a whole lane.

mod common;
mod row;
mod row_ledger;

use std::fmt;

use async_trait::async_trait;

pub use row::{Changes, Excerpt, Needs, OrderRow, RowKey};
pub use row_ledger::RowLedger;

pub use super::state_machine::Units;

use super::{AdjustmentId, Bounds, Lane, LedgerError};
use crate::domain::{ActivityId, OrderId, UserId};

/// A store of rows, in which [`RowLedger`] keeps lanes.
///
/// # Contract
/// - A [`read`](Rows::read) sees one moment of the lane, and nothing that a crash can undo.
/// - A [`commit`](Rows::commit) writes everything at one moment, or nothing. It is durable when it
///   answers.
/// - Dropping a future takes the step entirely or not at all.
#[async_trait]
pub trait Rows: Send + Sync + fmt::Debug {
    /// Returns the limits of this store.
    fn bounds(&self) -> Bounds;

    /// Reads rows of a lane.
    ///
    /// # Errors
    /// Errors of the store.
    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError>;

    /// Writes the changes, gives the lane its next version and returns `true`, if the lane has the version in
    /// them; else changes nothing and returns `false`. The version of a lane that is not there is 0. A
    /// commit may be delivered twice.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`] if the reply was lost; errors of the store.
    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError>;

    /// Returns up to `limit` orders of a lane with numbers above `after`, ascending; only those that are
    /// owed a refund if `owed` is set.
    ///
    /// # Errors
    /// Errors of the store.
    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError>;

    /// Returns up to `limit` entries of a lane's outbox with sequences from `from` on, ascending.
    ///
    /// # Errors
    /// Errors of the store.
    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError>;

    /// Returns all adjustments of a lane, by id.
    ///
    /// # Errors
    /// Errors of the store.
    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError>;

    /// Returns all lanes that are there, ascending.
    ///
    /// # Errors
    /// Errors of the store.
    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError>;

    /// Finds the lane and the buyer of an order by its [id](crate::domain::OrderKey::id), in one activity or
    /// in all, for an operator's search. It may be slow. Of several orders, any is returned.
    ///
    /// # Errors
    /// Errors of the store.
    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError>;
}
