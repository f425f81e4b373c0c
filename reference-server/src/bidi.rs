//! Keeps texts of people from turning the text around them (Unicode's bidirectional algorithm, UAX 9).
//!
//! Pages put such a text into an element of its own (`<bdi>`). These functions are for the places
//! without elements: titles, logs, messages of commands.

use std::borrow::Cow;

/// Isolates a text that is shown inside another one. Texts that are written from left to right stay
/// as they are.
pub fn isolate(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| is_control(c) || is_right_to_left(c)) {
        return Cow::Borrowed(text);
    }
    // An unmatched control would end the isolation early.
    let kept = text.chars().filter(|c| !is_control(*c));
    Cow::Owned(['\u{2068}'].into_iter().chain(kept).chain(['\u{2069}']).collect())
}

/// Writes the controls in a text as code points, `\u{202e}`, so that they are seen and do nothing.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_as(text, |code| format!("\\u{{{code:x}}}"))
}

/// Does the same in a JSON document, where only strings can hold such characters.
pub(crate) fn escape_json(document: &str) -> Cow<'_, str> {
    escape_as(document, |code| format!("\\u{code:04x}"))
}

fn escape_as(text: &str, escaped: impl Fn(u32) -> String) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match is_control(character) {
            true => out.push_str(&escaped(character.into())),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// The characters with the property `Bidi_Control`.
fn is_control(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Returns whether a character is in a block whose characters are written from right to left.
fn is_right_to_left(character: char) -> bool {
    matches!(
        character,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_turns_nothing_around() {
        for plain in ["Tee 茶 é", "", "👩\u{200d}💻"] {
            assert_eq!((isolate(plain), escape(plain)), (plain.into(), plain.into()));
        }
        assert_eq!(isolate("שלום"), "\u{2068}שלום\u{2069}");
        assert_eq!(isolate("a\u{202e}b\u{2069}\u{2069}c"), "\u{2068}abc\u{2069}");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
        let json = serde_json::json!({ "name": "a\u{202e}\u{61c}\"" }).to_string();
        assert_eq!(escape_json(&json), r#"{"name":"a\u202e\u061c\""}"#);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escape_json(&json)).unwrap()["name"],
            "a\u{202e}\u{61c}\""
        );
    }
}
