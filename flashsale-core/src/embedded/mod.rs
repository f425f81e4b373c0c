//! The embedded backend: ledger, catalogue, queue and worker ids in files of one directory, with no other software.
//!
//! [`EmbeddedLedger`] is the heart of it; see its documentation for how it works. [`EmbeddedCatalogue`], [`EmbeddedQueue`] and
//! [`LeaseFile`] keep what stands around it.

mod catalogue;
mod file;
mod ledger;
mod queue;
mod worker_lease;

pub use catalogue::EmbeddedCatalogue;
pub use ledger::{CommitMetrics, EmbeddedError, EmbeddedLedger, EmbeddedOptions, restore};
pub use queue::EmbeddedQueue;
pub use worker_lease::LeaseFile;
