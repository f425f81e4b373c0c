//! Gates: fast ledgers that admit orders and then follow the truth.

use async_trait::async_trait;

use super::{BatchId, Chunk, Entry, Epoch, Lane, Ledger, LedgerError, Position};
use crate::domain::ActivityId;

/// A ledger that admits orders and follows a [`Truth`](super::Truth) in everything else.
///
/// Its content is loaded from the truth and has an epoch. A gate decides
/// [`reserve`](Ledger::reserve), negative [`adjust`](Ledger::adjust) and transfers. It stores no
/// deadlines, and its orders are not persisted until the truth says so. [`open`](Ledger::open),
/// [`amend`](Ledger::amend), [`advance`](Ledger::advance), [`expire_due`](Ledger::expire_due) and
/// [`keep_unmatched`](Ledger::keep_unmatched) return [`LedgerError::NotDeciding`].
///
/// To rebuild a gate: [`close`](Gate::close) it, persist what it still holds, take the next epoch
/// at the truth, [`load`](Gate::load) the content, then [`reopen`](Gate::reopen).
#[async_trait]
pub trait Gate: Ledger {
    /// Returns the epoch of the open content; `None` if the activity is not open.
    ///
    /// # Errors
    /// Errors of the store.
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError>;

    /// Closes all lanes of the activity if its epoch is at most `epoch`; requests then get
    /// `NotReady`. The outbox stays readable. An unknown activity counts as closed.
    ///
    /// # Errors
    /// Errors of the store.
    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError>;

    /// Stages a chunk of the truth's content for an epoch. Chunks arrive in order, and the first
    /// one (without `after`) starts over. Repeating a chunk has no effect.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if the activity's epoch is `epoch` or higher;
    /// [`LedgerError::Invalid`] for a chunk out of order.
    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError>;

    /// Replaces the activity's content with the staged one and admits orders again. Units that no
    /// order holds are split evenly across the buckets. Each lane's outbox begins with
    /// [`Event::Reopened`](super::Event::Reopened) under the batch id that the truth recorded for
    /// the epoch. The gate follows from the position of the first chunk. Has no effect if `epoch`
    /// is open. A store may reopen its lanes one by one if a repeated call resumes and
    /// [`epoch`](Gate::epoch) returns the new epoch only once all are open.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if a higher epoch is open; [`LedgerError::Invalid`] if chunks are
    /// missing.
    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError>;

    /// Applies entries of the truth's outbox without deciding, and stores the position in the same
    /// step. Ignores entries up to the stored position, orders that are as new or newer here, and
    /// users of other lanes. An entry of an order concerns the order with its id and its user, and
    /// the one linked with it by replacement; each is compared by its own revision. Missing units
    /// are owed: `available` becomes negative.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Moved`] on a gap after the stored position.
    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError>;

    /// Returns the position in the truth's outbox up to which a lane has followed.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError>;
}
