//! Why an operation was not done.

use crate::{
    catalogue::CatalogueError,
    domain::{ActivityId, ActivityStatus, Invalid, Selling},
    ledger::LedgerError,
    queue::QueueError,
    service::ServiceError,
    snowflake::IdError,
};

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The catalogue did not take it: not found, another version, refused, out of order.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It is decided and written down, but the ledger did not take it: it is not in force yet. The same call again brings
    /// it in force.
    #[error("it is decided and not yet in force, repeat it: {0}")]
    NotInForce(#[source] LedgerError),
    /// The step is not possible from where the activity stands.
    #[error("the activity is {status:?}, selling is {selling:?}")]
    WrongState {
        /// Where it stands.
        status: ActivityStatus,
        /// Whether it sells.
        selling: Selling,
    },
    /// Whoever wrote an activity does not approve it.
    #[error("an activity is approved by somebody else than who wrote it")]
    OwnWork,
    /// The activity is not over, and cannot be archived.
    #[error("the activity is not over: end it, or wait until its window is over")]
    NotOver,
    /// A value breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no id at this moment.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The queue of jobs did not answer.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A refund that should be given up has been carried out.
    #[error("the money went back after all: send nothing; the dead letter is removed")]
    AlreadyRefunded,
    /// A batcher or a payment provider did not answer.
    #[error(transparent)]
    Service(ServiceError),
    /// The ledger sells activities that the catalogue does not have: they do not belong together.
    #[error(
        "the ledger sells what the catalogue does not have (activities {}): the catalogue is missing or belongs to \
         another ledger. Put the catalogue of this ledger back, from a backup of the directory if it is lost",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Unlisted(Vec<ActivityId>),
    /// The ledger has changes of a later version than the catalogue's: the catalogue is older than its ledger.
    #[error(
        "activity {0}: the ledger has changes that are newer than the catalogue, which is older than its ledger: put \
         the newer catalogue back, or make the change again"
    )]
    Outdated(ActivityId),
}
