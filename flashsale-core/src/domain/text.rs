//! Bounded texts.

use std::{borrow::Cow, fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Invalid;

/// A text of 1 to `MAX` characters after trimming, at least one of them visible, without control
/// characters except line feeds.
///
/// Control characters that are white space become a line feed or a space, since spreadsheets write
/// them into texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Bounded<const MAX: usize>(Box<str>);

/// A name: 1 to 120 characters.
pub type Name = Bounded<120>;

/// A description or a reason: 1 to 4,000 characters.
pub type Text = Bounded<4_000>;

/// The path or URL of a picture: 1 to 2,048 characters, as many as browsers and servers agree on.
pub type PictureUrl = Bounded<2_048>;

impl<const MAX: usize> Bounded<MAX> {
    /// Trims and validates a text.
    ///
    /// # Errors
    /// If it has no visible character, exceeds `MAX` characters, or has a control character that is
    /// no white space.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = Self::from_store(text)?;
        if !text.chars().any(is_visible) {
            return Err(Invalid::new(
                "text",
                format!("has no visible character: \"{}\"", text.escape_default()),
            ));
        }
        Ok(text)
    }

    /// Reads a text that may have been stored before texts had to be visible.
    fn from_store(text: &str) -> Result<Self, Invalid> {
        let text = plain_white_space(text.trim());
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

impl<'de, const MAX: usize> Deserialize<'de> for Bounded<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_input = deserializer.is_human_readable();
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        // Journals are binary, and have to stay readable.
        if is_input { Self::new(&text) } else { Self::from_store(&text) }.map_err(de::Error::custom)
    }
}

impl<const MAX: usize> From<Bounded<MAX>> for String {
    fn from(text: Bounded<MAX>) -> Self {
        text.0.into()
    }
}

/// Replaces control characters that are white space: line ends by line feeds, tabs by spaces.
fn plain_white_space(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return Cow::Borrowed(text);
    }
    let lines = text.replace("\r\n", "\n").replace(['\r', '\u{b}', '\u{c}', '\u{85}'], "\n");
    Cow::Owned(lines.replace('\t', " "))
}

/// Returns whether a character leaves a mark on the page: whether it is neither white space nor
/// ignored by default.
///
/// The ranges are `Default_Ignorable_Code_Point` of Unicode 17 (DerivedCoreProperties.txt), the
/// interlinear marks U+FFF9 to U+FFFB, and the blank braille pattern U+2800.
fn is_visible(character: char) -> bool {
    let is_ignored = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    !is_ignored && !character.is_whitespace() && !character.is_control()
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
    fn white_space_of_spreadsheets_is_plain() {
        let text = Text::new("\tSize\tChest\r\nM\t96 cm\rL\u{b}XL\n").unwrap();
        assert_eq!(text.as_str(), "Size Chest\nM 96 cm\nL\nXL");
        assert_eq!(
            Text::new("a\u{2028}b\u{a0}c").unwrap().as_str(),
            "a\u{2028}b\u{a0}c",
            "not control characters"
        );
    }

    #[test]
    fn a_text_has_a_visible_character() {
        for unseen in [
            "\u{200b}",
            "\u{202e}",
            " \u{2066}\u{2069} ",
            "\u{feff}\u{ad}",
            "\u{3164}\u{2800}",
            "\u{2060}\n\u{200d}",
            "\u{fe0f}",
            "\u{e0020}",
        ] {
            let reason = Name::new(unseen).unwrap_err().reason;
            assert!(reason.starts_with("has no visible character: \"\\u{"), "{reason}");
            assert!(serde_json::from_value::<Name>(unseen.into()).is_err(), "{unseen:?}");
        }
        for seen in ["\u{200b}a", "❤\u{fe0f}", "👩\u{200d}💻", "שלום\u{202e}", "。", "\u{301}"] {
            assert_eq!(Name::new(seen).unwrap().as_str(), seen, "kept as it is");
        }
    }

    #[test]
    fn stored_texts_stay_readable() {
        let stored = postcard::to_stdvec("\u{200b}").unwrap();
        assert_eq!(postcard::from_bytes::<Name>(&stored).unwrap().as_str(), "\u{200b}");
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
