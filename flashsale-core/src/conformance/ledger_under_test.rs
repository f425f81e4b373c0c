//! What a backend implements to be tested.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    domain::{ActivityId, Timestamp},
    ledger::{Lane, Ledger, LedgerRole, state_machine::Inspection},
};

/// Makes ledgers of one backend for the suite. Each case gets its own.
#[async_trait]
pub trait Factory: Send + Sync {
    /// The backend's name in reports.
    fn name(&self) -> String;

    /// The roles that the backend supports. Cases for other roles are skipped.
    fn roles(&self) -> Vec<LedgerRole>;

    /// The maximum number of buckets of an activity, at least 1. Cases about buckets of a single
    /// ledger need 4, random sequences 3; gates and truths are always tested with up to 3.
    fn max_buckets(&self) -> u16;

    /// Makes an empty ledger that shares no content with any other.
    ///
    /// The suite asks for hundreds, and for thousands while it makes a failing sequence smaller. A store on a
    /// server should give each a prefix or a schema of its own.
    ///
    /// A panic fails the case.
    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest;
}

/// A ledger under test.
#[derive(Clone)]
pub struct LedgerUnderTest {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Test-only access to the ledger.
    pub probe: Arc<dyn TestControl>,
}

impl fmt::Debug for LedgerUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ledger.fmt(f)
    }
}

/// Test-only access to a ledger.
#[async_trait]
pub trait TestControl: Send + Sync {
    /// Returns an activity with all counters as stored; `None` if it is not open. A composition of
    /// two tiers returns the truth's.
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection>;

    /// Raises the time of a lane's last decision to at least `to`, a moment in the year 2100, so
    /// even a backend with a real clock decides at that time. A lane that is not open is ignored.
    async fn advance_time(&self, lane: Lane, to: Timestamp);

    /// Waits until the parts of a composed ledger have nothing left to exchange.
    async fn settle(&self);

    /// Simulates a crash at this moment: opens a new ledger from what is durable. The old one is
    /// not used again. Returns `None` if the ledger is not durable; the case then continues.
    async fn restart(&self) -> Option<LedgerUnderTest>;
}
