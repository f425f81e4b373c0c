//! The error type of operations.

use crate::{
    catalogue::CatalogueError,
    domain::{ActivityId, ActivityStatus, Invalid, Selling},
    ledger::LedgerError,
    queue::QueueError,
    service::ServiceError,
    snowflake::IdError,
};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The catalogue rejected the change (not found, version conflict, invalid) or failed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The decision is written to the catalogue, but the ledger failed to apply it. Repeat the call
    /// to bring it into force.
    #[error("decided, but not yet in force; repeat the call: {0}")]
    NotInForce(#[source] LedgerError),
    /// The step is not possible in the activity's current state.
    #[error("the activity is {status:?}, selling is {selling:?}")]
    WrongState {
        /// The status of the activity.
        status: ActivityStatus,
        /// Whether it is selling.
        selling: Selling,
    },
    /// The creator of an activity may not approve it.
    #[error("an activity must be approved by someone other than its creator")]
    OwnWork,
    /// The activity is not over, so it cannot be archived.
    #[error("the activity is not over: end it, or wait until its window is over")]
    NotOver,
    /// A value breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No id can be generated right now.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The job queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The refund to be discarded has been paid out.
    #[error("the refund has already been paid out: send nothing; the dead letter is removed")]
    AlreadyRefunded,
    /// The batcher is busy, or a payment provider failed.
    #[error(transparent)]
    Service(ServiceError),
    /// The ledger sells activities that the catalogue lacks: the two do not belong together.
    #[error(
        "the ledger sells activities that the catalogue lacks ({}): the catalogue is missing or belongs to \
         another ledger. Restore this ledger's catalogue, from a backup of the directory if necessary",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Unlisted(Vec<ActivityId>),
    /// The ledger has changes of a newer version: the catalogue is older than the ledger.
    #[error(
        "activity {0}: the ledger has changes that are newer than the catalogue; restore the newer \
         catalogue, or make the change again"
    )]
    Outdated(ActivityId),
}
