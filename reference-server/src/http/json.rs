//! Answers in JSON.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::{
    Code, Problem, Response,
    answer::{JSON, with_body},
};

/// Answers `value` as JSON.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, JSON, Bytes::from(body)),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Problem::new(Code::Internal, "The answer could not be written.").into_response()
        }
    }
}
