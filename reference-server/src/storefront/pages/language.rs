//! The languages of the pages.

use std::fmt;

use hyper::{HeaderMap, header::ACCEPT_LANGUAGE};

use crate::http::document::thousandths;

/// A language of the pages. Its code is the first segment of their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Chinese, simplified (mainland China).
    Zh,
    /// English.
    En,
}

impl Language {
    /// All languages; the first is the default.
    pub const ALL: [Self; 2] = [Self::Zh, Self::En];

    /// Returns the path segment.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Zh => "zh",
            Self::En => "en",
        }
    }

    /// Returns the BCP 47 tag, for `lang` and `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Zh => "zh-CN",
            Self::En => "en",
        }
    }

    /// Returns its name in the language itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zh => "中文",
            Self::En => "English",
        }
    }

    /// Selects the text in this language.
    pub const fn say(self, zh: &'static str, en: &'static str) -> &'static str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }

    /// Parses a path segment.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// Negotiates by `Accept-Language`: highest weight, then first; only the primary subtag counts.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut best = (Self::ALL[0], 0);
        for value in headers.get_all(ACCEPT_LANGUAGE) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let (range, weight) = item.split_once(';').unwrap_or((item, "q=1"));
                let weight = weight.trim().strip_prefix("q=").map_or(0, thousandths);
                let subtag = range.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
                if let Some(language) = Self::of_code(&subtag).filter(|_| weight > best.1) {
                    best = (language, weight);
                }
            }
        }
        best.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_language_with_the_highest_weight_is_chosen() {
        let table = [
            ("", Language::Zh),
            ("en-GB,en;q=0.9", Language::En),
            ("zh-TW,zh;q=0.9,en;q=0.8", Language::Zh),
            ("en;q=0.8, zh-Hans-CN;q=0.9", Language::Zh),
            ("fr-FR, EN-us;q=0.5", Language::En),
            ("fr, de", Language::Zh),
            ("en;q=0", Language::Zh),
            ("en;q=x", Language::Zh),
            ("english", Language::Zh),
        ];
        for (accepted, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(accepted))]);
            assert_eq!(Language::of_request(&headers), expected, "{accepted:?}");
        }
    }
}
