//! Bounded texts.

use std::{fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A text of 1 to `MAX` characters after trimming, without control characters except line feeds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bounded<const MAX: usize>(Box<str>);

/// A name: 1 to 120 characters.
pub type Name = Bounded<120>;

/// A description or a reason: 1 to 4,000 characters.
pub type Text = Bounded<4_000>;

impl<const MAX: usize> Bounded<MAX> {
    /// Trims and validates a text.
    ///
    /// # Errors
    /// If it is empty, exceeds `MAX` characters, or has a control character other than a line feed.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let length = text.chars().count();
        if length == 0 {
            return Err(Invalid::new("text", "must not be empty"));
        }
        if length > MAX {
            return Err(Invalid::new("text", format!("has {length} characters, at most {MAX} are allowed")));
        }
        if let Some(control) = text.chars().find(|c| c.is_control() && *c != '\n') {
            return Err(Invalid::new(
                "text",
                format!("has the control character U+{:04X}", u32::from(control)),
            ));
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Deref for Bounded<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Bounded<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Bounded<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> FromStr for Bounded<MAX> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl<const MAX: usize> TryFrom<String> for Bounded<MAX> {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(&text)
    }
}

impl<const MAX: usize> From<Bounded<MAX>> for String {
    fn from(text: Bounded<MAX>) -> Self {
        text.0.into()
    }
}

/// Returns the first 64 bits of a BLAKE3 digest.
pub(crate) fn digest64(bytes: &[u8]) -> u64 {
    let digest = blake3::hash(bytes);
    digest.as_bytes()[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Returns the first 128 bits of a BLAKE3 digest.
pub(crate) fn digest128(bytes: &[u8]) -> u128 {
    let digest = blake3::hash(bytes);
    digest.as_bytes()[..16].iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        assert_eq!(Name::new("  双十一 “11.11” \u{1F389} ").unwrap().as_str(), "双十一 “11.11” \u{1F389}");
        assert!(Name::new(" \n ").is_err());
        assert!(Name::new("a\u{0}b").is_err());
        assert!(Name::new(&"字".repeat(120)).is_ok());
        assert!(Name::new(&"字".repeat(121)).is_err());
    }
}
