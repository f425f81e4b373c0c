//! The embedded backend: everything is stored in the files of one directory, without other
//! software.
//!
//! [`EmbeddedLedger`] is its core. [`EmbeddedCatalogue`], [`EmbeddedQueue`], [`EmbeddedIdentities`] and
//! [`LeaseFile`] store the rest.

mod catalogue;
mod file;
mod identities;
mod ledger;
mod queue;
mod worker_lease;

pub use catalogue::EmbeddedCatalogue;
pub use identities::EmbeddedIdentities;
pub use ledger::{CommitMetrics, EmbeddedError, EmbeddedLedger, EmbeddedOptions, restore};
pub use queue::EmbeddedQueue;
pub use worker_lease::LeaseFile;
