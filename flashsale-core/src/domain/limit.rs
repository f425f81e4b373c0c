//! Purchase limits.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The subject whose purchases a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The buyer.
    User,
    /// The buyer's device, as identified by the application.
    Device,
    /// The buyer's network address, as identified by the application.
    Address,
}

/// The scope over which a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Units of this offer.
    Offer,
    /// Units of all offers of the activity.
    Activity,
}

/// A limit of `max` units per subject. Counts units of open and paid orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct LimitRule {
    /// The subject whose purchases are counted.
    pub subject: Subject,
    /// The scope over which they are counted.
    pub per: Per,
    max: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    subject: Subject,
    per: Per,
    max: u32,
}

impl TryFrom<RawRule> for LimitRule {
    type Error = Invalid;

    fn try_from(raw: RawRule) -> Result<Self, Invalid> {
        Self::new(raw.subject, raw.per, raw.max)
    }
}

impl LimitRule {
    /// Creates a rule.
    ///
    /// # Errors
    /// If `max` is 0, which would forbid every purchase.
    pub fn new(subject: Subject, per: Per, max: u32) -> Result<Self, Invalid> {
        if max == 0 {
            return Err(Invalid::new("max", "a limit allows at least 1 unit"));
        }
        Ok(Self { subject, per, max })
    }

    /// Returns the maximum number of units per subject, at least 1.
    pub fn max(&self) -> u32 {
        self.max
    }
}
