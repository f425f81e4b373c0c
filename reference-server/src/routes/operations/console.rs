//! The page and files of the console. They contain no data, so no token is required.

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

/// Serves the page in the language of the path, or else by `Accept-Language`.
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

/// Serves a file that the page loads.
pub(super) fn asset(headers: &HeaderMap, name: &str) -> Answer {
    Ok(assets::find(name, Audience::Operators).ok_or_else(Problem::not_found)?.respond(headers))
}
