//! The calls of both listeners, and who answers them.

mod cors;
mod errors;
mod headers;
pub mod openapi;
mod operations;
mod public;
mod route_labels;

use flashsale_core::domain::Invalid;
use hyper::Method;

pub use operations::Operations;
pub use public::Public;

use crate::http::{Problem, Query, Response};

/// What a route gives: an answer or a problem, which is one too.
type Answer = Result<Response, Problem>;

/// The most items of a page of a list, and how many there are if nobody says.
const MAX_ITEMS: usize = 100;
const ITEMS: usize = 20;

/// The id in a path; what is not one names nothing.
fn id<T: std::str::FromStr<Err = Invalid>>(segment: &str) -> Result<T, Problem> {
    segment.parse().map_err(|_| Problem::not_found())
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

/// `?limit=` of a list.
fn limit(query: &Query<'_>) -> Result<usize, Problem> {
    let expected = "a number from 1 to 100";
    match query.parsed::<usize>("limit", expected)? {
        None => Ok(ITEMS),
        Some(limit) if (1..=MAX_ITEMS).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid_field("limit", format!("Give {expected}."))),
    }
}

/// `?after=` of a list whose cursor is the id of the last item.
fn after<T: std::str::FromStr<Err = Invalid>>(query: &Query<'_>) -> Result<Option<T>, Problem> {
    query.parsed("after", "what `next` of the page before said")
}
