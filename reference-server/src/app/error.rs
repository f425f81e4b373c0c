//! Why an application could not be opened.

use std::{io, path::PathBuf};

use flashsale_core::{
    catalogue::CatalogueError,
    domain::Invalid,
    embedded::EmbeddedError,
    ledger::LedgerError,
    queue::QueueError,
    service::OperationError,
    snowflake::{LeaseError, StartError},
};

use crate::{auth::keyring::KeyringError, storefront::published::PublishedCatalogueError};

/// Why an application could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The catalogue cannot be opened.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Engine(#[from] EmbeddedError),
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The queue of jobs cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// There is no worker id.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The id generator cannot be started.
    #[error(transparent)]
    Ids(#[from] StartError),
    /// The secrets cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What operators decided cannot be taken up again.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Notifications cannot be posted.
    #[error("{0}")]
    Webhook(String),
    /// The keys of the identity provider cannot be used.
    #[error("{0}")]
    Jwt(String),
    /// The catalogue's activities cannot be sold.
    #[error("what is in the catalogue cannot be published: {0}")]
    Publish(#[from] PublishError),
    /// A value of the configuration breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why something could not be published. What was published before stays as it was, and publishing again goes on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A document could not be written.
    #[error(transparent)]
    Storefront(#[from] PublishedCatalogueError),
    /// The ledger did not take it.
    #[error(transparent)]
    Operation(#[from] OperationError),
}
