//! A client for the operations listener of a running server.

use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;

use crate::http::Client;

/// A client for the operations listener of a server.
#[derive(Debug)]
pub struct RemoteServer {
    client: Client,
    token: OperatorsToken,
}

/// A token that `Debug` does not show.
struct OperatorsToken(String);

impl std::fmt::Debug for OperatorsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The call could not be prepared.
    #[error("{0}")]
    NotAsked(String),
    /// The connection failed, or broke before the answer.
    #[error("{server} does not answer: {reason}. Is it the operations listener of a running server?")]
    NoAnswer {
        /// The address.
        server: String,
        /// The cause.
        reason: String,
    },
    /// The server refused the request.
    #[error("the server answered {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Title, detail and problems of the answer.
        detail: String,
    },
    /// The answer does not have the expected form.
    #[error("cannot parse the server's answer; is it another version? {0}")]
    NotUnderstood(String),
}

impl RemoteServer {
    /// Creates a client for `server`, `[http[s]://]HOST:PORT`, with an operations token. With
    /// `https://` a CA in the PEM file `ca` must have signed the server's certificate.
    ///
    /// # Errors
    /// [`RemoteError::NotAsked`] if `ca` is missing or unusable, or the host is invalid.
    pub fn new(server: &str, token: &str, ca: Option<&Path>) -> Result<Self, RemoteError> {
        let trimmed = server.trim_end_matches('/');
        let url = if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        let client = Client::new(&url, ca, "--ca FILE").map_err(RemoteError::NotAsked)?;
        Ok(Self { client, token: OperatorsToken(token.to_owned()) })
    }

    /// Sends a request and returns the JSON of the answer.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RemoteError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.0))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(ToString::to_string).unwrap_or_default())));
        let sent = async { self.client.send(request?, Some(usize::MAX)).await };
        let (status, bytes) = sent.await.map_err(|error| RemoteError::NoAnswer {
            server: self.client.server().to_owned(),
            reason: error.to_string(),
        })?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| RemoteError::NotUnderstood(String::from_utf8_lossy(&bytes).into_owned()))?;
        if status.is_success() {
            return Ok(answer);
        }
        let mut detail = format!(
            "{}: {}",
            answer["title"].as_str().unwrap_or_default(),
            answer["detail"].as_str().unwrap_or_default()
        );
        for problem in answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            detail.push('\n');
            detail.push_str(problem);
        }
        Err(RemoteError::Refused { status: status.as_u16(), detail })
    }
}
