//! A client for the operations listener of a running server.

use std::{fmt, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::http::tls;

/// A client for the operations listener of a server.
pub struct RemoteServer {
    server: String,
    token: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServer").field("server", &self.server).finish_non_exhaustive()
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
        let (server, tls) = match trimmed.strip_prefix("https://") {
            Some(server) => {
                let ca = ca.ok_or("https:// needs --ca FILE: the CA certificates (PEM) of the server");
                let ca = ca.map_err(|problem| RemoteError::NotAsked(problem.to_owned()))?;
                (server, Some(tls::connector(server, ca).map_err(RemoteError::NotAsked)?))
            }
            None => (trimmed.strip_prefix("http://").unwrap_or(trimmed), None),
        };
        Ok(Self { server: server.to_owned(), token: token.to_owned(), tls })
    }

    /// Sends a request and returns the JSON of the answer.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RemoteError> {
        let stream = TcpStream::connect(&self.server).await.map_err(|error| self.no_answer(&error))?;
        match &self.tls {
            None => self.call_over(stream, method, path, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                self.call_over(stream.map_err(|error| self.no_answer(&error))?, method, path, body).await
            }
        }
    }

    fn no_answer(&self, error: &dyn fmt::Display) -> RemoteError {
        RemoteError::NoAnswer { server: self.server.clone(), reason: error.to_string() }
    }

    async fn call_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, RemoteError> {
        let no_answer = |error: &dyn fmt::Display| self.no_answer(error);
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
