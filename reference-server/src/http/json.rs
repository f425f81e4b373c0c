//! JSON responses.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::{
    Code, Problem, Response,
    answer::{JSON, with_body},
};

/// Builds a response with `value` as JSON; if that fails, a 500 problem.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, JSON, Bytes::from(body)),
        Err(error) => {
            tracing::error!(%error, "cannot serialize a response as JSON");
            Problem::new(Code::Internal, "The response could not be serialized.").into_response()
        }
    }
}
