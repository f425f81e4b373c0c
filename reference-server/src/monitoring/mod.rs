//! Observability: metrics, the invariant monitor, and reconciliation.

pub mod inspector;
pub mod invariants;
pub mod metrics;
pub mod reconciliation;
