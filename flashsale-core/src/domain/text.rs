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

    /// Makes a valid text of one that somebody else chose and that must not be refused: control
    /// characters become spaces, characters that turn the direction of the surrounding text are
    /// left out, and what exceeds `MAX` characters is cut off. `None` if nothing remains.
    pub fn cleaned(text: &str) -> Option<Self> {
        let shown = text.chars().filter(|c| !turns_text(*c));
        let cleaned: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let cut: String = cleaned.trim().chars().take(MAX).collect();
        Self::new(&cut).ok()
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a character changes the direction of the text around it (UAX #9, 2).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
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

    #[test]
    fn a_foreign_text_is_cleaned_instead_of_refused() {
        let cleaned = |text: &str| Name::cleaned(text).map(|name| name.as_str().to_owned());
        assert_eq!(cleaned(" Li\tLei\r\n").as_deref(), Some("Li Lei"));
        assert_eq!(cleaned("a\u{202E}b\u{2066}").as_deref(), Some("ab"));
        assert_eq!(cleaned(&"字".repeat(5_000)), Some("字".repeat(120)));
        assert_eq!(cleaned(&format!("{} b", "a".repeat(119))), Some("a".repeat(119)), "no space at the end");
        for nothing in ["", "\u{0}", "\u{202E}", " \n "] {
            assert_eq!(cleaned(nothing), None, "{nothing:?}");
        }
    }
}
