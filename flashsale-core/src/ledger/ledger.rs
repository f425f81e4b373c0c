//! The contract of ledgers.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::{Answer, Command, LedgerError, LedgerRole, Query, Reply};

/// Keeps the stock, limits and orders of offers.
///
/// A ledger takes [`Command`]s and answers [`Query`]s. Callers use the typed calls of [`LedgerCalls`](super::LedgerCalls), which
/// every ledger has; their docs say what each does and which errors it has.
///
/// # Contract
/// - **Atomic.** One command is one atomic step of one lane. Items of a batch are decided in order,
///   each seeing the effects of its predecessors, and the batch commits entirely or not at all.
///   Events are written in the same step. [`open`](super::LedgerCalls::open), [`amend`](super::LedgerCalls::amend),
///   [`step_time`](super::LedgerCalls::step_time), [`register`](super::LedgerCalls::register),
///   [`retire`](super::LedgerCalls::retire), and a gate's [`close`](super::LedgerCalls::close),
///   [`load`](super::LedgerCalls::load) and [`reopen`](super::LedgerCalls::reopen) take such a step in each lane;
///   repeating a failed call resumes where it stopped.
/// - **Answered after the commit.** An answer, even to a declined request, is as durable as the
///   ledger promises.
/// - **Repeatable.** After an indefinite error, repeating a call with the same ids is safe and
///   returns the result of the first call.
/// - **Cancellation.** Dropping a future takes the step entirely or not at all.
/// - **Time** is `max(last, now)` in each lane, from one deciding clock; every answer carries it.
///   After a restart, `last` is the time of the lane's last entry. Only
///   [`step_time`](super::LedgerCalls::step_time) moves `last` back.
/// - **Numbering.** Events of a lane are numbered from 1 without gaps.
/// - **Errors** apply to the whole call; [`LedgerError`] says what a caller may conclude.
/// - **Roles.** A ledger refuses commands that its [role](Ledger::role) does not decide, with
///   [`LedgerError::NotDeciding`].
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Returns the limits of this implementation.
    fn bounds(&self) -> Bounds;

    /// Returns the role of this ledger.
    fn role(&self) -> LedgerRole;

    /// Takes a step. The answer is the one that the command's call in [`LedgerCalls`](super::LedgerCalls) returns.
    ///
    /// # Errors
    /// Those of the command's call.
    async fn step(&self, command: Command) -> Result<Answer, LedgerError>;

    /// Answers a question. The reply is the one that the query's call in [`LedgerCalls`](super::LedgerCalls) returns.
    ///
    /// # Errors
    /// Those of the query's call.
    async fn read(&self, query: Query) -> Result<Reply, LedgerError>;
}

/// The limits of a ledger implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The maximum number of items per batch.
    pub max_batch: usize,
    /// How many batches per lane a process should keep in flight: more than 1 if the ledger decides
    /// one while it makes its predecessor durable. Batches are decided in the order of the calls.
    pub max_in_flight: usize,
    /// Whether lanes also change without a call of this process: other processes use the ledger, or
    /// two tiers exchange what they decided. Then services look for changes from time to time.
    pub is_shared: bool,
    /// How long keys and nonces are kept; `None` for as long as their activity.
    pub key_retention: Option<Duration>,
}
