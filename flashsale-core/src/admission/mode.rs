//! The modes of rules.

use serde::{Deserialize, Serialize};

/// The mode of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The rule is not evaluated.
    Off,
    /// The rule is evaluated and counted, but everyone passes.
    Observe,
    /// The rule is evaluated, counted and enforced.
    #[default]
    On,
}

impl Mode {
    /// Returns the name in configurations and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }

    pub(super) fn evaluates(self) -> bool {
        self != Self::Off
    }

    pub(super) fn enforces(self) -> bool {
        self == Self::On
    }
}
