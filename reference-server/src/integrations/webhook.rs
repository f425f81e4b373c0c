//! Order notifications by webhook.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use flashsale_core::{
    domain::Clock,
    service::{EventSink, Notification, SinkError},
};
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    auth::signature,
    config::{NotificationsConfig, Secret},
    http::tls,
    rfc3339::Rfc3339,
    views::ShownOrder,
};

/// Time limit of one delivery; shorter than the lease of its job.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts each notification to a URL as JSON, signed like a payment callback. Any 2xx acknowledges
/// it, 410 rejects it for good, and any other outcome causes a retry.
pub struct Webhook {
    /// Host and port to connect to.
    server: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The authority of the URL, for the `Host` header.
    host: String,
    path: String,
    secret: Secret,
    clock: Arc<dyn Clock>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    kind: &'static str,
    at: Rfc3339,
    order: ShownOrder,
}

impl Webhook {
    /// Creates a webhook for `url` that signs with `secret`. With `https://` the receiver's
    /// certificate must be signed by a CA in the PEM file `ca`.
    ///
    /// # Errors
    /// If the URL is not `https://HOST[:PORT]/PATH`, or `ca` is missing or unusable.
    pub fn new(url: &str, ca: Option<&Path>, secret: Secret, clock: Arc<dyn Clock>) -> Result<Self, String> {
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
                return Err(
                    "https needs notifications.ca_file, the CA certificates (PEM) of the receiver".to_owned()
                );
            }
            _ => None,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { server, tls, host: authority.as_str().to_owned(), path, secret, clock })
    }

    /// Creates the configured webhook; `None` if there is none.
    ///
    /// # Errors
    /// What is wrong with the URL or the certificates, with the configuration key.
    pub fn configured(
        config: &NotificationsConfig,
        secret: Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, String> {
        let Some(url) = &config.webhook else { return Ok(None) };
        let webhook = Self::new(url, config.ca_file.as_deref(), secret, clock);
        webhook.map(Some).map_err(|problem| format!("notifications.webhook: {problem}"))
    }

    async fn post(&self, id: &str, body: Vec<u8>) -> Result<StatusCode, Failure> {
        let stream = TcpStream::connect(&self.server).await?;
        match &self.tls {
            None => self.post_over(stream, id, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                self.post_over(stream, id, body).await
            }
        }
    }

    async fn post_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        id: &str,
        body: Vec<u8>,
    ) -> Result<StatusCode, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post(&self.path)
            .header(HOST, &self.host)
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", id)
            .header(signature::HEADER, signature::sign(&self.secret, self.clock.now(), &body))
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request);
        // Drive the connection while waiting for the response.
        tokio::pin!(connection, response);
        tokio::select! {
            biased;
            response = &mut response => Ok(response?.status()),
            closed = &mut connection => match closed {
                // The response may have arrived before the connection closed.
                Ok(()) => Ok(response.await?.status()),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("server", &self.server).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventSink for Webhook {
    async fn deliver(&self, notification: &Notification) -> Result<(), SinkError> {
        let Notification { id, kind, at, order } = notification;
        let shown =
            Shown { id, kind: kind.as_str(), at: (*at).into(), order: ShownOrder::to_operator(order) };
        let body = serde_json::to_vec(&shown).map_err(|error| SinkError::Refused(error.to_string()))?;
        let server = &self.server;
        match timeout(TIMEOUT, self.post(id, body)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(StatusCode::GONE)) => Err(SinkError::Refused(format!("{server} answered 410"))),
            Ok(Ok(status)) => Err(SinkError::Unavailable(format!("{server} answered {}", status.as_u16()))),
            Ok(Err(error)) => Err(SinkError::Unavailable(format!("{server}: {error}"))),
            Err(_) => {
                Err(SinkError::Unavailable(format!("{server} did not answer within {} s", TIMEOUT.as_secs())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::domain::SystemClock;

    use super::*;

    #[test]
    fn urls_are_parsed() {
        let secret = || Secret::new(*b"0123456789abcdef");
        let hook = |url| Webhook::new(url, None, secret(), Arc::new(SystemClock));
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
            let hook = hook(url).unwrap();
            assert_eq!((hook.server.as_str(), hook.host.as_str(), hook.path.as_str()), (server, host, path));
            assert!(!format!("{hook:?}").contains("0123456789"));
        }
        for url in ["mailer.example", "/orders", "http://", "ftp://a/", "http://me@host/", ""] {
            assert!(hook(url).unwrap_err().starts_with("write it as"), "{url}");
        }
        assert!(hook("https://mailer.example/").unwrap_err().contains("ca_file"), "https needs a CA file");
    }
}
