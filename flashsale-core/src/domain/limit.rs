//! Purchase limits.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Whose purchases a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The buyer.
    User,
    /// The buyer's device, as the application names it.
    Device,
    /// The buyer's network address, as the application names it.
    Address,
}

/// Over what a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Units of this offer.
    Offer,
    /// Units of all offers of the activity.
    Activity,
}

/// At most `max` units per subject. Unpaid orders count; an order that ends unpaid gives its units back to the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct LimitRule {
    /// Whose purchases are counted.
    pub subject: Subject,
    /// Over what they are counted.
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
    /// A rule.
    ///
    /// # Errors
    /// If `max` is 0: an offer that nobody may buy is not a limit.
    pub fn new(subject: Subject, per: Per, max: u32) -> Result<Self, Invalid> {
        if max == 0 {
            return Err(Invalid::new("max", "a limit allows at least 1 unit"));
        }
        Ok(Self { subject, per, max })
    }

    /// The most units that one subject may have, at least 1.
    pub fn max(&self) -> u32 {
        self.max
    }
}
