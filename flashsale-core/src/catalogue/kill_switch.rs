//! The kill switch, which stops all sales at once.

use serde::{Deserialize, Serialize};

use crate::domain::{Attribution, Timestamp};

/// The state of the kill switch, and who set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// Whether sales are stopped.
    pub on: bool,
    /// When it was set.
    pub at: Timestamp,
    /// The operator and the reason.
    pub by: Attribution,
}
