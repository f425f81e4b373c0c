//! Errors of starting the application and of publishing.

use std::{io, path::PathBuf};

use flashsale_core::{
    catalogue::CatalogueError,
    domain::Invalid,
    embedded::EmbeddedError,
    identities::IdentitiesError,
    ledger::LedgerError,
    queue::QueueError,
    service::OperationError,
    snowflake::{LeaseError, StartError},
};

use crate::{auth::keyring::KeyringError, storefront::published::PublishedCatalogueError};

/// Why the application could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be created.
    #[error("cannot create the data directory {} (storage.directory): {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error("the data directory {} (storage.directory) is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The catalogue cannot be opened.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Engine(#[from] EmbeddedError),
    /// The ledger is unavailable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The job queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The directory of identities cannot be opened.
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    /// No worker id could be leased.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The id generator cannot start.
    #[error(transparent)]
    Ids(#[from] StartError),
    /// The secrets cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Operator decisions cannot be resumed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The webhook configuration is invalid.
    #[error("{0}")]
    Webhook(String),
    /// The keys of the identity provider cannot be used.
    #[error("{0}")]
    Jwt(String),
    /// The activities in the catalogue cannot be published.
    #[error("cannot publish the catalogue: {0}")]
    Publish(#[from] PublishError),
    /// A configuration value is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why publishing failed. What was published before stays in place; publish again to continue.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A document could not be rendered.
    #[error(transparent)]
    Storefront(#[from] PublishedCatalogueError),
    /// The ledger did not accept the change.
    #[error(transparent)]
    Operation(#[from] OperationError),
}
