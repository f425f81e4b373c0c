//! Gates: fast ledgers that admit and then obey.

use async_trait::async_trait;

use super::{BatchId, Chunk, Entry, Epoch, Lane, Ledger, LedgerError, Position};
use crate::domain::ActivityId;

/// A ledger that admits orders and follows a [`Truth`](super::Truth) in everything else.
///
/// Its content comes from the truth and has an epoch. It decides [`reserve`](Ledger::reserve), negative
/// [`adjust`](Ledger::adjust) and transfers; it stores no deadlines, and its orders are not persisted until the truth
/// says so. [`open`](Ledger::open), [`amend`](Ledger::amend), [`advance`](Ledger::advance),
/// [`expire_due`](Ledger::expire_due) and [`keep_unmatched`](Ledger::keep_unmatched) answer
/// [`LedgerError::NotDeciding`].
///
/// A rebuild is: [`close`](Gate::close), save what is there, take the next epoch at the truth, [`load`](Gate::load) its
/// content, [`reopen`](Gate::reopen).
#[async_trait]
pub trait Gate: Ledger {
    /// The epoch of the content with which the activity is open, if it is.
    ///
    /// # Errors
    /// Those of the store.
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError>;

    /// Stops admitting in all lanes of the activity, if its epoch is `epoch` or lower; requests are answered `NotReady`.
    /// The outbox stays readable. An activity that is not there is closed.
    ///
    /// # Errors
    /// Those of the store.
    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError>;

    /// Puts a part of the truth's content aside for an epoch. The parts come in their order, the first one (without
    /// `after`) begins anew; a repeated part changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if the open epoch is `epoch` or higher; [`LedgerError::Invalid`] for a part that is not
    /// the next.
    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError>;

    /// Replaces the activity's content with what was loaded and admits again: units that no order holds are
    /// divided equally among the buckets, each lane's outbox begins with [`Event::Reopened`](super::Event::Reopened)
    /// under the batch id that the truth recorded with the epoch, and the position of the first part is what the gate
    /// follows from. A store whose lanes are apart may do it lane by lane, if a repetition goes on where it stopped and
    /// [`epoch`](Gate::epoch) names the epoch only when all lanes are open. Repeated for an epoch that is open it changes
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerError::Moved`] if a higher epoch is open; [`LedgerError::Invalid`] if the content is not loaded whole.
    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError>;

    /// Obeys entries of the truth's outbox, without deciding, and stores the position in the same step. Entries at or
    /// behind the stored position, and entries about an order that it has in the same or a later revision, change nothing;
    /// entries about users of other lanes neither. Units that are missing are owed: available becomes negative.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; [`LedgerError::Moved`] if entries between the stored position and the first one are
    /// missing.
    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError>;

    /// The position in the truth's outbox up to which a lane has followed.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError>;
}
