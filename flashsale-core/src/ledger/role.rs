//! The roles of ledgers.

use serde::{Deserialize, Serialize};

/// The role of a ledger in its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerRole {
    /// The only ledger; decides everything.
    Single,
    /// Admits orders and follows a truth.
    Gate,
    /// Decides what a gate admitted; has one lane per activity.
    Truth,
}
