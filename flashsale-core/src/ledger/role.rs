//! Roles: what a ledger is for.

use serde::{Deserialize, Serialize};

/// What a ledger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerRole {
    /// It decides everything.
    Single,
    /// It admits, and follows a truth.
    Gate,
    /// It decides what a gate admitted; an activity has one lane.
    Truth,
}
