//! The languages of the pages.

use std::fmt;

use hyper::{HeaderMap, header::ACCEPT_LANGUAGE};

use crate::http::document::thousandths;

/// A language that all pages are written in. Its code is the first segment of their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Chinese as written in mainland China.
    Zh,
    /// English.
    En,
}

impl Language {
    /// All of them; the first is for those who say nothing.
    pub const ALL: [Self; 2] = [Self::Zh, Self::En];

    /// The segment of the path.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Zh => "zh",
            Self::En => "en",
        }
    }

    /// The value of the attribute `lang`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Zh => "zh-CN",
            Self::En => "en",
        }
    }

    /// Its own name for itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zh => "中文",
            Self::En => "English",
        }
    }

    /// The one of two texts that is in this language.
    pub const fn say(self, zh: &'static str, en: &'static str) -> &'static str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }

    /// The language of a segment of a path.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The language that a request weighs highest, by its first subtag; of two that weigh the same the first.
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
    fn the_language_that_a_request_weighs_highest() {
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
