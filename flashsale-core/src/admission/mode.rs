//! Whether a rule refuses, only counts, or is not looked at.

use serde::{Deserialize, Serialize};

/// How a rule is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is not looked at.
    Off,
    /// It decides and counts, and everybody passes.
    Observe,
    /// It decides, counts and refuses.
    #[default]
    On,
}

impl Mode {
    /// The word in configurations and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::On => "on",
        }
    }

    pub(super) fn looks(self) -> bool {
        self != Self::Off
    }

    pub(super) fn refuses(self) -> bool {
        self == Self::On
    }
}
