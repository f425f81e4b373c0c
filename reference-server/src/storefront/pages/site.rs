//! What all pages of a shop share: where they are, where they call, what they may load.

use hyper::header::{HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

use super::Language;
use crate::storefront::assets;

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Headers of every page beside its policy and language.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=()")),
];

/// What all pages of a shop share.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Whether the pages offer to sign in.
    pub signs_in: bool,
    /// Scheme and host of the public listener for pages that are served from elsewhere, as in `https://api.example`;
    /// empty for its own pages.
    pub api: String,
}

impl Site {
    /// The pages that the public listener serves itself.
    pub fn own(signs_in: bool) -> Self {
        Self { signs_in, api: String::new() }
    }

    /// Pages that are served from elsewhere and call the public listener at `api`; `None` if that is not scheme and host.
    pub fn exported(signs_in: bool, api: &str) -> Option<Self> {
        let host = api.strip_prefix("https://").or_else(|| api.strip_prefix("http://"))?;
        // The address is part of the policy: nothing in it may end a source there.
        let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
        (!host.is_empty() && is_host).then(|| Self { signs_in, api: api.to_owned() })
    }

    /// Whether somebody else serves the pages, so that they carry their policy with them.
    pub fn is_exported(&self) -> bool {
        !self.api.is_empty()
    }

    /// The content security policy: no inline script or style, so that a name that looks like markup stays a name; no
    /// frames; pictures of products from anywhere, and those of a quiz from the answer that asks it.
    pub fn policy(&self) -> String {
        let (space, api) = if self.is_exported() { (" ", self.api.as_str()) } else { ("", "") };
        // Pages cannot forbid to be framed by themselves; who serves exported ones has to send that.
        let frames = if self.is_exported() { "" } else { "; frame-ancestors 'none'" };
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
             connect-src 'self'{space}{api}; form-action 'self'; base-uri 'none'{frames}"
        )
    }
}

/// What the base template needs to know.
pub(super) struct Frame<'a> {
    pub(super) site: &'a Site,
    pub(super) language: Language,
    /// The page's path behind the language, as in `/activities/7/`.
    pub(super) path: &'a str,
}

impl<'a> Frame<'a> {
    pub(super) fn new(site: &'a Site, language: Language, path: &'a str) -> Self {
        Self { site, language, path }
    }

    /// The path of another page in this language.
    pub(super) fn link(&self, path: impl AsRef<str>) -> String {
        format!("/{}{}", self.language, path.as_ref())
    }

    pub(super) fn others(&self) -> impl Iterator<Item = Language> {
        Language::ALL.into_iter().filter(|language| *language != self.language)
    }

    /// The path of this page in another language.
    pub(super) fn path_in(&self, language: &Language) -> String {
        if self.path.starts_with("/sandbox/") {
            return format!("{}?lang={language}", self.path);
        }
        format!("/{language}{}", self.path)
    }

    pub(super) fn asset(&self, name: &str) -> String {
        assets::path(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_no_source_of_the_policy() {
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
