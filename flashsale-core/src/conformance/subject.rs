//! What the suite has to know of a backend.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    domain::{ActivityId, Timestamp},
    ledger::{Gate, Lane, Ledger, LedgerRole, Truth, state_machine::Inspection},
};

/// Makes ledgers of one backend for the suite.
#[async_trait]
pub trait Factory: Send + Sync {
    /// What reports call the backend.
    fn name(&self) -> String;

    /// What its ledgers can be for. The cases of other roles are left out.
    fn roles(&self) -> Vec<LedgerRole>;

    /// Over how many buckets its activities can spread, from 1.
    fn max_buckets(&self) -> u16;

    /// Makes a ledger without any content.
    ///
    /// A panic fails the case that asked for it.
    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest;
}

/// A ledger under test.
#[derive(Clone)]
pub struct LedgerUnderTest {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The same ledger as a gate, if it was made for that.
    pub gate: Option<Arc<dyn Gate>>,
    /// The same ledger as a truth, if it was made for that.
    pub truth: Option<Arc<dyn Truth>>,
    /// What tests may do with it and users may not.
    pub probe: Arc<dyn TestControl>,
}

impl LedgerUnderTest {
    /// A ledger that decides everything.
    pub fn single(ledger: Arc<dyn Ledger>, probe: Arc<dyn TestControl>) -> Self {
        Self { ledger, gate: None, truth: None, probe }
    }

    /// A gate.
    pub fn gate(gate: Arc<dyn Gate>, probe: Arc<dyn TestControl>) -> Self {
        Self { ledger: Arc::clone(&gate) as _, gate: Some(gate), truth: None, probe }
    }

    /// A truth.
    pub fn truth(truth: Arc<dyn Truth>, probe: Arc<dyn TestControl>) -> Self {
        Self { ledger: Arc::clone(&truth) as _, gate: None, truth: Some(truth), probe }
    }
}

impl fmt::Debug for LedgerUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ledger.fmt(f)
    }
}

/// What tests may do with a ledger and users may not.
#[async_trait]
pub trait TestControl: Send + Sync {
    /// An activity with all counters as they are stored; `None` if it is not open. In a composition of two tiers that
    /// is the truth's.
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection>;

    /// Raises the last time of a lane, unless it is later already. The suite lives in the year 2100, so a backend that
    /// reads a real clock decides at the time that was set here.
    async fn advance_time(&self, lane: Lane, to: Timestamp);

    /// Waits until nothing is under way between the parts of the ledger. A ledger of one part does nothing.
    async fn settle(&self);

    /// Opens the ledger anew on what a crash at this moment would leave; the old one is not used any more. `None` if there
    /// is nothing to open, since it was never meant to last.
    async fn restart(&self) -> Option<LedgerUnderTest>;
}
