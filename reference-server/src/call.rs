//! Calls of the command line to a running server.

use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Calls the operations listener of a server.
pub struct RemoteServer {
    server: String,
    token: String,
}

impl fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServer").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Called {
    /// The server does not answer.
    #[error("{server} does not answer: {reason}. Is it the operations listener of a running server?")]
    NoAnswer {
        /// Which server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server refused.
    #[error("the server answers {status}: {detail}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// The answer is not what this version expects.
    #[error("the server's answer is not understood; is it another version? {0}")]
    NotUnderstood(String),
}

impl RemoteServer {
    /// Calls `server`, `HOST:PORT` with or without `http://`, with an operations token.
    pub fn new(server: &str, token: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/');
        Self { server: server.to_owned(), token: token.to_owned() }
    }

    /// Calls and gives the JSON of the answer.
    ///
    /// # Errors
    /// [`Called`].
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Called> {
        let no_answer = |error: &dyn fmt::Display| Called::NoAnswer {
            server: self.server.clone(),
            reason: error.to_string(),
        };
        let stream = TcpStream::connect(&self.server).await.map_err(|error| no_answer(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| no_answer(&error))?;
        let connection = tokio::spawn(connection);
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.server)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| no_answer(&error))?;
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| no_answer(&error))?.to_bytes();
        drop(sender);
        connection.abort();
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Called::NotUnderstood(String::from_utf8_lossy(&bytes).into_owned()))?;
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
        Err(Called::Refused { status: status.as_u16(), detail })
    }
}
