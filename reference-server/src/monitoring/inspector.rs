//! A look inside a ledger, for metrics, invariants and reconciliation.

use async_trait::async_trait;
use flashsale_core::{
    domain::ActivityId,
    embedded::{CommitMetrics, EmbeddedLedger},
    ledger::{
        LedgerError,
        state_machine::{Census, Inspection},
    },
};

/// What a ledger shows of itself beside what it sells with.
#[async_trait]
pub trait Inspector: Send + Sync + std::fmt::Debug {
    /// Whether it decides.
    ///
    /// # Errors
    /// Why it has stopped.
    fn health(&self) -> Result<(), LedgerError>;

    /// What its commits took, if it is one that commits in this process.
    fn commits(&self) -> Option<&CommitMetrics>;

    /// Numbers of orders of an activity; `None` if it is not open.
    ///
    /// # Errors
    /// Those of the ledger.
    async fn census(&self, activity: ActivityId) -> Result<Option<Census>, LedgerError>;

    /// Everything that is stored of an activity; `None` if it is not open. It costs as much as there are orders.
    ///
    /// # Errors
    /// Those of the ledger.
    async fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, LedgerError>;
}

#[async_trait]
impl Inspector for EmbeddedLedger {
    fn health(&self) -> Result<(), LedgerError> {
        Self::health(self).map_err(|error| LedgerError::Stopped(error.to_string().into()))
    }

    fn commits(&self) -> Option<&CommitMetrics> {
        Some(Self::commits(self))
    }

    async fn census(&self, activity: ActivityId) -> Result<Option<Census>, LedgerError> {
        Self::census(self, activity).await
    }

    async fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, LedgerError> {
        Self::inspect(self, activity).await
    }
}
