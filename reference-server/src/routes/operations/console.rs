//! The console's page and its files: nobody needs a token for them, they hold no data.

use hyper::{
    HeaderMap,
    header::{HeaderValue, VARY},
};

use crate::{
    http::Problem,
    routes::Answer,
    storefront::{
        assets::{self, Audience},
        pages::{self, Language},
    },
};

/// The page in the language of the path, or else in that of the request.
pub(super) fn page(headers: &HeaderMap, path: &[&str]) -> Answer {
    match path {
        [""] => {
            let page = pages::console().in_language(Language::of_request(headers));
            let mut response = page.respond(headers);
            response.headers_mut().append(VARY, HeaderValue::from_static("accept-language"));
            Ok(response)
        }
        [code] | [code, ""] => {
            let language = Language::of_code(code).ok_or_else(Problem::not_found)?;
            Ok(pages::console().in_language(language).respond(headers))
        }
        _ => Err(Problem::not_found()),
    }
}

/// A file that the page loads.
pub(super) fn asset(headers: &HeaderMap, name: &str) -> Answer {
    Ok(assets::find(name, Audience::Operators).ok_or_else(Problem::not_found)?.respond(headers))
}
