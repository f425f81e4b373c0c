//! A client of one HTTP server, for what this server tells or asks others.

use std::{fmt, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::tls;

/// A failed exchange.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client of one server. Each request has a connection of its own. Redirects are not followed.
pub(crate) struct Client {
    /// Host and port to connect to.
    server: String,
    /// The authority of the URL, for the `Host` header.
    host: String,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Client {
    /// Creates a client for `url`. With `https://` the server's certificate must be signed by a CA
    /// in the PEM file `ca`.
    ///
    /// # Errors
    /// If the URL is not `https://HOST[:PORT]/PATH` or `http://…`, or `ca` is unusable, or missing
    /// although required; `ca_key` is its configuration key.
    pub(crate) fn new(url: &str, ca: Option<&Path>, ca_key: &str) -> Result<Self, String> {
        let form = || "write it as https://HOST[:PORT]/PATH or http://HOST[:PORT]/PATH".to_owned();
        let url: Uri = url.parse().map_err(|_| form())?;
        let authority = url.authority().ok_or_else(form)?;
        let default = match url.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => return Err(form()),
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(form());
        }
        let server = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(default));
        let tls = match (default, ca) {
            (443, Some(ca)) => Some(tls::connector(&server, ca)?),
            (443, None) => {
                return Err(format!("https needs {ca_key}, the CA certificates (PEM) of the server"));
            }
            _ => None,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { server, host: authority.as_str().to_owned(), path, tls })
    }

    /// Returns host and port, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Returns whether exchanges are encrypted and the server is authenticated.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the path and the query of the URL.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Sends a request. Returns the status, and the body if `max_body` bytes are allowed for it.
    /// There is no time limit.
    ///
    /// # Errors
    /// If the connection fails, or the body is larger.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        max_body: Option<usize>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (mut head, body) = request.into_parts();
        head.headers.insert(HOST, HeaderValue::try_from(&self.host)?);
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let request = Request::from_parts(head, body);
        let stream = TcpStream::connect(&self.server).await?;
        match &self.tls {
            None => exchange(stream, request, max_body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                exchange(stream, request, max_body).await
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    max_body: Option<usize>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let Some(max_body) = max_body else { return Ok((head.status, Bytes::new())) };
        Ok::<_, Failure>((head.status, Limited::new(body, max_body).collect().await?.to_bytes()))
    };
    // Drive the connection while waiting for the answer.
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        closed = &mut connection => match closed {
            // The answer may have arrived before the connection closed.
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        for (url, server, host, path) in [
            (
                "http://mailer.example/orders?from=shop",
                "mailer.example:80",
                "mailer.example",
                "/orders?from=shop",
            ),
            ("http://127.0.0.1:9000", "127.0.0.1:9000", "127.0.0.1:9000", "/"),
            ("http://[::1]:9000/x", "[::1]:9000", "[::1]:9000", "/x"),
        ] {
            let client = Client::new(url, None, "ca").unwrap();
            assert_eq!(
                (client.server.as_str(), client.host.as_str(), client.path.as_str()),
                (server, host, path)
            );
        }
        for url in ["mailer.example", "/orders", "http://", "ftp://a/", "http://me@host/", ""] {
            assert!(Client::new(url, None, "ca").unwrap_err().starts_with("write it as"), "{url}");
        }
        let problem = Client::new("https://mailer.example/", None, "ca_file").unwrap_err();
        assert!(problem.contains("ca_file"), "https needs a CA file: {problem}");
    }
}
