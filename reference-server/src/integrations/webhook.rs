//! Notifications about orders, posted to another system of the shop.

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

/// How long a receiver may take for one notification; less than the lease of its job.
const PATIENCE: Duration = Duration::from_secs(10);

/// A receiver that is reached by HTTP. Each notification is one `POST` with a JSON body, signed as payment callbacks are; any 2xx
/// takes it, 410 refuses it for good, and after everything else it comes again.
pub struct Webhook {
    /// Host and port, as they are connected to.
    server: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The host as it stands in the address.
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
    /// Posts to `url` and signs with `secret`. With `https://` the receiver has to show a certificate that one in the file `ca`
    /// vouches for.
    ///
    /// # Errors
    /// If the address is none of the form `https://HOST[:PORT]/PATH`, or nobody vouches for the receiver.
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
                return Err("name with notifications.ca_file who vouches for the receiver".to_owned());
            }
            _ => None,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { server, tls, host: authority.as_str().to_owned(), path, secret, clock })
    }

    /// The receiver that the configuration names; `None` if it names none.
    ///
    /// # Errors
    /// What is wrong with the address or the certificates, with its key.
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
        // The connection works while this waits, and ends with it.
        tokio::pin!(connection, response);
        tokio::select! {
            biased;
            response = &mut response => Ok(response?.status()),
            closed = &mut connection => match closed {
                // What has come before the end is an answer.
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
        match timeout(PATIENCE, self.post(id, body)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(StatusCode::GONE)) => Err(SinkError::Refused(format!("{server} answers 410"))),
            Ok(Ok(status)) => Err(SinkError::Unavailable(format!("{server} answers {}", status.as_u16()))),
            Ok(Err(error)) => Err(SinkError::Unavailable(format!("{server}: {error}"))),
            Err(_) => Err(SinkError::Unavailable(format!(
                "{server} has not answered within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::domain::SystemClock;

    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
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
        assert!(hook("https://mailer.example/").unwrap_err().contains("ca_file"), "nobody vouches for it");
    }
}
