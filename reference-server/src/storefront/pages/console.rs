//! The operator console: a single page without data. Its script loads the data with a token.

use std::sync::LazyLock;

use askama::Template;
use hyper::header::{CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, HeaderValue};

use super::{
    Editions, HTML, Language,
    site::{self, Frame, Site},
};
use crate::http::document::Document;

/// Revalidated on each load, so that the console always matches the server version.
const CACHE: &str = "no-cache";

/// No inline scripts or styles, no other origins, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "console.html")]
struct ConsolePage<'a> {
    frame: Frame<'a>,
}

static CONSOLE: LazyLock<Editions> = LazyLock::new(|| {
    let written = Editions::write(write);
    written.expect("a template without data renders")
});

/// Returns the page of the operator console.
pub fn console() -> &'static Editions {
    &CONSOLE
}

fn write(language: Language) -> Result<Document, askama::Error> {
    let site = Site::own(false);
    let mut headers = vec![
        (CONTENT_LANGUAGE, HeaderValue::from_static(language.tag())),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    headers.extend(site::HEADERS);
    let page = ConsolePage { frame: Frame::new(&site, language, "/") };
    Ok(Document::new(HTML, CACHE, &headers, page.render()?))
}
