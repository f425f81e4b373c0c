//! Order notifications by webhook.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use flashsale_core::{
    domain::Clock,
    service::{EventSink, Notification, SinkError},
};
use http_body_util::Full;
use hyper::{Request, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    auth::{buyers::Buyers, signature},
    config::{NotificationsConfig, Secret},
    http::Client,
    rfc3339::Rfc3339,
    views::ShownOrder,
};

/// Time limit of one delivery; shorter than the lease of its job.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts each notification to a URL as JSON, signed like a payment callback. Any 2xx acknowledges
/// it, 410 rejects it for good, and any other outcome causes a retry.
pub struct Webhook {
    client: Client,
    secret: Secret,
    buyers: Arc<Buyers>,
    clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    kind: &'static str,
    at: Rfc3339,
    order: ShownOrder,
}

impl Webhook {
    /// Creates the configured webhook, which signs with `secret`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::problem`].
    pub fn configured(
        config: &NotificationsConfig,
        secret: Secret,
        buyers: Arc<Buyers>,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, String> {
        Ok(client(config)?.map(|client| Self { client, secret, buyers, clock }))
    }

    /// What is wrong with the URL or the certificates, with the configuration key.
    pub fn problem(config: &NotificationsConfig) -> Option<String> {
        client(config).err()
    }

    async fn body(&self, notification: &Notification) -> Result<Vec<u8>, SinkError> {
        let Notification { id, kind, at, order, payment } = notification;
        let identity = self.buyers.identity(order.key.user).await;
        let identity = identity.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        let order = ShownOrder::to_operator(order, *payment, identity);
        let shown = Shown { id, kind: kind.as_str(), at: (*at).into(), order };
        serde_json::to_vec(&shown).map_err(|error| SinkError::Refused(error.to_string()))
    }
}

fn client(config: &NotificationsConfig) -> Result<Option<Client>, String> {
    let client = |url: &String| Client::new(url, config.ca_file.as_deref(), "notifications.ca_file");
    let client = config.webhook.as_ref().map(client).transpose();
    client.map_err(|problem| format!("notifications.webhook: {problem}"))
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("client", &self.client).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventSink for Webhook {
    async fn deliver(&self, notification: &Notification) -> Result<(), SinkError> {
        let body = self.body(notification).await?;
        let request = Request::post(self.client.path())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", notification.id.as_str())
            .header(signature::HEADER, signature::sign(&self.secret, self.clock.now(), &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| SinkError::Refused(error.to_string()))?;
        let server = self.client.server();
        match timeout(TIMEOUT, self.client.send(request, None)).await {
            Ok(Ok((status, _))) if status.is_success() => Ok(()),
            Ok(Ok((StatusCode::GONE, _))) => Err(SinkError::Refused(format!("{server} answered 410"))),
            Ok(Ok((status, _))) => {
                Err(SinkError::Unavailable(format!("{server} answered {}", status.as_u16())))
            }
            Ok(Err(error)) => Err(SinkError::Unavailable(format!("{server}: {error}"))),
            Err(_) => {
                Err(SinkError::Unavailable(format!("{server} did not answer within {} s", TIMEOUT.as_secs())))
            }
        }
    }
}
