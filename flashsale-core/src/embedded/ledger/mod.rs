//! The embedded engine: the [`StateMachine`](crate::ledger::state_machine::StateMachine) of the
//! specification with a durable journal, in this process.
//!
//! **Group commit.** Many callers share one wait for the disk:
//! 1. The *writer* thread owns the state machine. It decides all waiting calls, one after the
//!    other, and collects records of the changes.
//! 2. It hands the records and the undelivered answers to the *committer* thread as one commit.
//! 3. The committer appends the records to the journal, a table in `ledger.redb`, as one row, and
//!    waits for the sync. Meanwhile the writer decides the calls of the next commit.
//! 4. The committer sends the answers. The state machine is ahead of the disk, but no caller
//!    notices: every answer, even to a read or a declined request, waits for all earlier commits.
//!
//! **Snapshots** keep restarts short and the journal small:
//! 1. A snapshot is one file with an image of the state machine and the number of its last row. It
//!    is written on [`EmbeddedLedger::close`], and by a background thread each time the journal has
//!    grown by [`EmbeddedOptions::snapshot_after_bytes`].
//! 2. Each later commit deletes a few of the rows that the snapshot contains.
//! 3. A start loads the newest snapshot and replays the rows after it.
//!
//! **Archiving.** An activity in which nothing is open can leave memory ([`LedgerCalls::archive`]): it is
//! written to `archive.redb`, and its orders are read from there. Whoever changes it brings it back.
//!
//! [`LedgerCalls::archive`]: crate::ledger::LedgerCalls::archive
//!
//! **Failure.** After a failed write the engine stops until the directory is opened again. Calls of
//! that commit get [`Unknown`](crate::ledger::LedgerError::Unknown). Calls decided later are not
//! written and get [`Stopped`](crate::ledger::LedgerError::Stopped).
//!
//! redb was chosen because it is a maintained pure-Rust store that commits with one `fdatasync`,
//! checksums its pages, and locks the file against other processes.
//!
//! **Memory.** Opening an activity reserves and writes once to the memory of its orders, on another
//! thread, so that no buyer waits for it: about 200 bytes per unit, for at most two million units per
//! lane, and no more than is left of [`EmbeddedOptions::room_bytes`]. When an activity is over, the
//! first call after that gives back what was not needed: all rows without an order, and the indices
//! if less than a 32nd of them is used. Archiving gives back the rest.
//!
//! **Outboxes** keep every event until all consumers have acknowledged it. Beyond
//! [`EmbeddedOptions::max_unread`] a lane places no further orders.

mod archive;
mod archive_file;
mod available_memory;
mod backup;
mod call;
mod commit_metrics;
mod committer;
mod engine;
mod error;
#[cfg(test)]
mod faults;
mod journal;
mod preparation;
mod snapshot;
#[cfg(test)]
mod tests;
mod traits;
mod writer;

pub use backup::restore;
pub use commit_metrics::CommitMetrics;
pub use engine::{EmbeddedLedger, EmbeddedOptions};
pub use error::EmbeddedError;
