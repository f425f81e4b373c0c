//! The embedded engine: the specification of the ledger behind a durable journal, in this process.
//!
//! An [`EmbeddedLedger`] is one [`StateMachine`](crate::ledger::state_machine::StateMachine) that one thread owns. Callers hand it steps; the thread
//! takes all that wait and decides them one after the other. A second thread writes everything that they changed as one
//! row of a journal, waits for the disk once, and only then answers them all; meanwhile the first decides what comes
//! next. So the cost of a commit is shared by whoever waits, and nobody hears of anything, declined requests and readings
//! included, that a power cut could take back.
//!
//! The journal is a table in `ledger.redb`. redb was chosen because it is a well-kept store in Rust alone, commits with
//! one `fdatasync`, checks every page that it reads back, and keeps a second process away. Beside it stand
//! *snapshots*: the whole book as one file, so that a restart repeats only the rows after it. A snapshot is written when
//! the engine is closed, and by a thread of its own while it sells; see [`EmbeddedLedger::close`] and
//! [`EmbeddedOptions::snapshot_after_bytes`].
//!
//! After a failed write the engine stops: what was in that commit is answered
//! [`Unknown`](crate::ledger::LedgerError::Unknown), everything later, also what was decided already, is not written and
//! answered [`Stopped`](crate::ledger::LedgerError::Stopped), until the process opens the directory anew.
//!
//! Opening an activity finds the memory for its orders and writes to it once, on a thread of its own, so that the first
//! buyers do not wait for it: about 200 bytes for each unit, of at most two million units in each lane.

mod backup;
mod call;
mod commit_metrics;
mod committer;
mod engine;
mod error;
#[cfg(test)]
mod faults;
mod journal;
mod snapshot;
#[cfg(test)]
mod tests;
mod traits;
mod writer;

pub use backup::restore;
pub use commit_metrics::CommitMetrics;
pub use engine::{EmbeddedLedger, EmbeddedOptions};
pub use error::EmbeddedError;
