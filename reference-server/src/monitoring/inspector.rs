//! Access to ledger internals for metrics, invariants and reconciliation.

use async_trait::async_trait;
use flashsale_core::{
    domain::ActivityId,
    embedded::{CommitMetrics, EmbeddedLedger},
    ledger::{
        LedgerError,
        state_machine::{Census, Inspection},
    },
};

/// Reads ledger internals that the `Ledger` trait does not expose.
#[async_trait]
pub trait Inspector: Send + Sync + std::fmt::Debug {
    /// Checks that the ledger is running.
    ///
    /// # Errors
    /// Why it stopped.
    fn health(&self) -> Result<(), LedgerError>;

    /// Returns commit metrics, if the ledger commits in this process.
    fn commits(&self) -> Option<&CommitMetrics>;

    /// Returns order counts of an activity; `None` if it is not open.
    ///
    /// # Errors
    /// [`LedgerError`] if the ledger cannot be read.
    async fn census(&self, activity: ActivityId) -> Result<Option<Census>, LedgerError>;

    /// Returns all state of an activity, in time linear in its orders; `None` if it is not open.
    ///
    /// # Errors
    /// [`LedgerError`] if the ledger cannot be read.
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
