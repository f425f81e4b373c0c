//! What all pages share: links, the address of the API, and the content security policy.

use std::sync::LazyLock;

use flashsale_core::domain::Currency;
use hyper::header::{HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

use super::Language;
use crate::storefront::assets;

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Headers of every page, besides its policy and language.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=()")),
];

/// Every currency with its decimal places, as in `CNY2 JPY0`. Scripts use no other table, because
/// those of browsers differ for some currencies.
static CURRENCIES: LazyLock<String> = LazyLock::new(|| {
    let entries: Vec<_> =
        Currency::all().map(|currency| format!("{currency}{}", currency.exponent())).collect();
    entries.join(" ")
});

/// Settings that all pages share.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Whether the pages have a sign-in form.
    pub signs_in: bool,
    /// The origin of the public listener for pages on another origin, as in `https://api.example`;
    /// empty for its own pages.
    pub api: String,
}

impl Site {
    /// Creates the settings of pages that the public listener serves itself.
    pub fn own(signs_in: bool) -> Self {
        Self { signs_in, api: String::new() }
    }

    /// Creates the settings of exported pages that call `api`; `None` unless it is an HTTP origin.
    pub fn exported(signs_in: bool, api: &str) -> Option<Self> {
        let host = api.strip_prefix("https://").or_else(|| api.strip_prefix("http://"))?;
        // The origin becomes part of the policy, so it must not be able to end a directive.
        let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
        (!host.is_empty() && is_host).then(|| Self { signs_in, api: api.to_owned() })
    }

    /// Whether the pages are exported, and so must contain their policy.
    pub fn is_exported(&self) -> bool {
        !self.api.is_empty()
    }

    /// Returns the content security policy: no inline scripts or styles, no frames, product
    /// pictures from any HTTPS origin, quiz pictures as `data:` URLs.
    pub fn policy(&self) -> String {
        let (space, api) = if self.is_exported() { (" ", self.api.as_str()) } else { ("", "") };
        // A policy in the page cannot forbid framing; the host of exported pages must send the header.
        let frames = if self.is_exported() { "" } else { "; frame-ancestors 'none'" };
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
             connect-src 'self'{space}{api}; form-action 'self'; base-uri 'none'{frames}"
        )
    }
}

/// The context of the base template.
pub(super) struct Frame<'a> {
    pub(super) site: &'a Site,
    pub(super) language: Language,
    /// The path without the language, as in `/activities/7/`.
    pub(super) path: &'a str,
}

impl<'a> Frame<'a> {
    pub(super) fn new(site: &'a Site, language: Language, path: &'a str) -> Self {
        Self { site, language, path }
    }

    /// Returns the path of another page in this language.
    pub(super) fn link(&self, path: impl AsRef<str>) -> String {
        format!("/{}{}", self.language, path.as_ref())
    }

    pub(super) fn others(&self) -> impl Iterator<Item = Language> {
        Language::ALL.into_iter().filter(|language| *language != self.language)
    }

    /// Returns the path of this page in another language.
    pub(super) fn path_in(&self, language: &Language) -> String {
        if self.path.starts_with("/sandbox/") {
            return format!("{}?lang={language}", self.path);
        }
        format!("/{language}{}", self.path)
    }

    pub(super) fn currencies(&self) -> &'static str {
        &CURRENCIES
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::path(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_cannot_inject_into_the_policy() {
        for good in ["https://api.example", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            let site = Site::exported(true, good).unwrap();
            assert!(site.policy().contains(&format!("connect-src 'self' {good};")));
        }
        for bad in
            ["", "api.example", "https://", "https://a/", "https://a;script-src *", "https://a b", "ftp://a"]
        {
            assert!(Site::exported(true, bad).is_none(), "{bad}");
        }
    }
}
