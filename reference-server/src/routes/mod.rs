//! The routes of both listeners.

mod cors;
mod errors;
mod headers;
pub mod openapi;
mod operations;
mod public;
mod route_labels;
pub mod starting;

use flashsale_core::domain::Invalid;
use hyper::{Method, StatusCode, header::HeaderValue};

pub use operations::Operations;
pub use public::Public;

use crate::http::{Prepared, Problem, Query, Response};

/// The result of a route. A problem becomes a response as well.
type Answer = Result<Response, Problem>;

/// The largest and the default number of items on a page of a list.
const MAX_ITEMS: usize = 100;
const ITEMS: usize = 20;

/// Parses the id in a path; a malformed one is answered 404.
fn id<T: std::str::FromStr<Err = Invalid>>(segment: &str) -> Result<T, Problem> {
    segment.parse().map_err(|_| Problem::not_found())
}

/// Answers a probe of a process that can work.
fn alive() -> Response {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    Prepared::new(StatusCode::OK, text, "alive\n").no_store().respond()
}

fn only_get(method: &Method) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(Problem::method_not_allowed("GET, HEAD"))
    }
}

fn only_post(method: &Method) -> Result<(), Problem> {
    if *method == Method::POST { Ok(()) } else { Err(Problem::method_not_allowed("POST")) }
}

/// Reads `?limit=` of a list.
fn limit(query: &Query<'_>) -> Result<usize, Problem> {
    let expected = "a number from 1 to 100";
    match query.parsed::<usize>("limit", expected)? {
        None => Ok(ITEMS),
        Some(limit) if (1..=MAX_ITEMS).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid_field("limit", format!("Give {expected}."))),
    }
}

/// Reads `?after=` of a list whose cursor is the id of the last item.
fn after<T: std::str::FromStr<Err = Invalid>>(query: &Query<'_>) -> Result<Option<T>, Problem> {
    query.parsed("after", "the `next` of the previous page")
}
