//! The kill switch: one decision that stops every sale.

use serde::{Deserialize, Serialize};

use crate::domain::{Attribution, Timestamp};

/// How the kill switch stands, and who put it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// Whether no order is taken.
    pub on: bool,
    /// Since when.
    pub at: Timestamp,
    /// Who decided it and why.
    pub by: Attribution,
}
