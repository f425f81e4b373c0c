//! Static files of the pages. Their URLs contain a content digest, so caches may keep them forever.

use std::{collections::HashMap, sync::LazyLock};

use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::http::document::Document;

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const BRIEFLY: &str = "public, max-age=10";
const HEADERS: [(HeaderName, HeaderValue); 1] =
    [(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Name, media type and content of each file. `base.*` is shared and becomes part of other files.
const FILES: [(&str, &str, &str); 6] = [
    (
        "console.css",
        CSS,
        concat!(include_str!("../../assets/base.css"), include_str!("../../assets/console.css")),
    ),
    (
        "console.js",
        JAVASCRIPT,
        concat!(include_str!("../../assets/base.js"), include_str!("../../assets/console.js")),
    ),
    ("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
    ("shop.css", CSS, concat!(include_str!("../../assets/base.css"), include_str!("../../assets/shop.css"))),
    (
        "shop.js",
        JAVASCRIPT,
        concat!(include_str!("../../assets/base.js"), include_str!("../../assets/shop.js")),
    ),
    ("solver.js", JAVASCRIPT, include_str!("../../assets/solver.js")),
];

/// Files of the console, which the public listener does not serve.
const OPERATORS: [&str; 2] = ["console.css", "console.js"];

/// Whose pages load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The pages of the shop.
    Buyers,
    /// The console.
    Operators,
}

impl Audience {
    fn may_have(self, name: &str) -> bool {
        self == Self::Operators || !OPERATORS.contains(&name)
    }
}

static ASSETS: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    FILES.into_iter().map(|(name, kind, content)| (name, Asset::new(kind, content))).collect()
});

/// A static file with its digest, and as a long-lived and a short-lived response.
#[derive(Debug)]
struct Asset {
    digest: String,
    immutable: Document,
    brief: Document,
}

impl Asset {
    fn new(content_type: &'static str, content: &'static str) -> Self {
        let document = |cache| Document::new(content_type, cache, &HEADERS, content);
        Self {
            digest: blake3::hash(content.as_bytes()).to_hex()[..16].to_owned(),
            immutable: document(FOR_EVER),
            brief: document(BRIEFLY),
        }
    }
}

/// Returns the URL path of a file: `/assets/shop.0123456789abcdef.js` for `shop.js`.
///
/// # Panics
/// If there is no such file, which is a mistake in a template.
pub fn path(name: &str) -> String {
    let asset = ASSETS.get(name).unwrap_or_else(|| panic!("no asset {name:?}, which a page uses"));
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    format!("/assets/{stem}.{}.{extension}", asset.digest)
}

/// Finds a file by the last segment of its path. A page of another server version names another
/// digest; it gets the file of this version, cached only briefly.
pub fn find(segment: &str, audience: Audience) -> Option<&'static Document> {
    let known = |name: &str| ASSETS.get(name).filter(|_| audience.may_have(name));
    if let Some(asset) = known(segment) {
        return Some(&asset.brief);
    }
    let (stem, rest) = segment.split_once('.')?;
    let (digest, extension) = rest.split_once('.')?;
    let is_digest = digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let asset = known(&format!("{stem}.{extension}")).filter(|_| is_digest)?;
    Some(if asset.digest == digest { &asset.immutable } else { &asset.brief })
}

/// Lists every file of the shop with its path.
pub fn all() -> impl Iterator<Item = (String, &'static Document)> {
    let files = FILES.iter().filter(|(name, ..)| Audience::Buyers.may_have(name));
    files.map(|(name, ..)| (path(name), &ASSETS[name].immutable))
}
