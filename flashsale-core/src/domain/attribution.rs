//! Who changed something, and why.

use serde::{Deserialize, Serialize};

use super::{Name, Text};

/// The actor and reason of an operator's change, for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// The operator or the job.
    pub actor: Name,
    /// Why it was done.
    pub reason: Text,
}
