//! The quiz: digits in a picture.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flashsale_core::admission::Challenge;
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use super::{keyed_random::KeyedRandom, picture};

/// Characters of an answer. One guess in 8^6 = 262,144 is right; a challenge can be tried once.
const LENGTH: usize = 6;

/// A quiz as the client sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Quiz {
    /// A picture as a `data:` URL (PNG).
    image: String,
    /// The number of characters in the picture.
    length: usize,
    /// The characters that can occur.
    alphabet: &'static str,
}

impl Quiz {
    /// Derives the quiz from a challenge.
    ///
    /// # Errors
    /// If the picture cannot be encoded.
    pub fn of(challenge: &Challenge) -> Result<Self, png::EncodingError> {
        let mut random = KeyedRandom::of(challenge.secret());
        let text = text(&mut random);
        let file = picture::draw(&text, &mut random)?;
        let image = format!("data:image/png;base64,{}", STANDARD.encode(file));
        Ok(Self { image, length: LENGTH, alphabet: picture::ALPHABET })
    }
}

/// Verifies an answer in constant time; spaces are ignored.
pub(super) fn is_read(challenge: &Challenge, answer: &str) -> bool {
    let answer: String =
        answer.chars().filter(|character| !character.is_whitespace()).take(2 * LENGTH).collect();
    text(&mut KeyedRandom::of(challenge.secret())).as_bytes().ct_eq(answer.as_bytes()).into()
}

/// Returns the text in the picture of a challenge.
pub fn answer(challenge: &Challenge) -> String {
    text(&mut KeyedRandom::of(challenge.secret()))
}

fn text(random: &mut KeyedRandom) -> String {
    let alphabet: Vec<char> = picture::ALPHABET.chars().collect();
    (0..LENGTH).map(|_| alphabet[random.below(alphabet.len())]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use flashsale_core::{
        admission::{ChallengeKeys, Exercise},
        domain::{ActivityId, SkuId, Timestamp, UserId},
    };

    use super::*;

    fn challenge() -> Challenge {
        let keys = ChallengeKeys::new([(1, [1; 32])]).unwrap();
        let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap());
        keys.issue(activity, sku, UserId::new(3).unwrap(), Exercise::Quiz, Timestamp::MAX).unwrap().challenge
    }

    #[test]
    fn only_what_the_picture_shows_is_right() {
        let challenge = challenge();
        let right = answer(&challenge);
        assert!(is_read(&challenge, &right));
        assert!(is_read(&challenge, &format!(" {} {} ", &right[..3], &right[3..])));
        for wrong in ["", &right[1..], &format!("{right}2"), &right.repeat(1_000), "１２３４５６"] {
            assert!(!is_read(&challenge, wrong), "{wrong}");
        }
        for index in 0..LENGTH {
            for other in picture::ALPHABET.chars().filter(|other| !right[index..].starts_with(*other)) {
                let wrong = format!("{}{other}{}", &right[..index], &right[index + 1..]);
                assert!(!is_read(&challenge, &wrong));
            }
        }
    }

    #[test]
    fn answers_differ_and_use_the_alphabet() {
        let answers: HashSet<_> = (0..200).map(|_| answer(&challenge())).collect();
        assert!(answers.len() > 190, "{}", answers.len());
        let used: HashSet<char> = answers.iter().flat_map(|answer| answer.chars()).collect();
        assert_eq!(used.len(), picture::ALPHABET.len());
        let shown = Quiz::of(&challenge()).unwrap();
        assert!(shown.image.starts_with("data:image/png;base64,iVBOR"));
    }
}
