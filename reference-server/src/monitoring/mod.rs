//! What operators and monitoring systems see: metrics, watched invariants, reconciliation.

pub mod inspector;
pub mod invariants;
pub mod metrics;
pub mod reconciliation;
