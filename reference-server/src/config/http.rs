//! `[http]`: listeners, runtimes and transport limits.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Listeners, runtimes and transport limits; table `[http]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// `http.public`: listen address for buyers. Default 127.0.0.1:8080.
    pub public: SocketAddr,
    /// `http.operations`: listen address for operators. Default 127.0.0.1:8081.
    pub operations: SocketAddr,
    /// `http.workers`: threads of the public listener; 0 means one per core. Default 0.
    pub workers: usize,
    /// `http.shared_runtime`: one multi-threaded runtime instead of one per core. Default false.
    pub shared_runtime: bool,
    /// `http.backlog`: pending connections per worker (the `listen` backlog). Default 4096.
    pub backlog: u16,
    /// `http.max_connections`: open connections per listener; more are refused. Default 16384.
    pub max_connections: usize,
    /// `http.head_bytes`: maximum size of a request head. Default 16384.
    pub head_bytes: usize,
    /// `http.head_fields`: maximum header fields of a request, 8 to 100. Default 64.
    pub head_fields: usize,
    /// `http.body_bytes`: maximum size of a request body. Default 16384.
    pub body_bytes: usize,
    /// `http.handshake_timeout_ms`: time limit of a TLS handshake. Default 10000.
    pub handshake_timeout_ms: u64,
    /// `http.head_timeout_ms`: time limit from the first byte of a head to its last. Default 10000.
    pub head_timeout_ms: u64,
    /// `http.idle_timeout_ms`: time limit until the first byte of the next request. Default 60000.
    pub idle_timeout_ms: u64,
    /// `http.write_timeout_ms`: how long a client may read nothing of its answer. Default 10000.
    pub write_timeout_ms: u64,
    /// `http.body_timeout_ms`: time limit of a whole request body. Default 10000.
    pub body_timeout_ms: u64,
    /// `http.request_timeout_ms`: time limit of the handler, including the body. Default 15000.
    pub request_timeout_ms: u64,
    /// `http.operations_body_timeout_ms`: `body_timeout_ms` for operators. Default 120000.
    pub operations_body_timeout_ms: u64,
    /// `http.operations_request_timeout_ms`: `request_timeout_ms` for operators. Default 600000.
    pub operations_request_timeout_ms: u64,
    /// `http.drain_timeout_ms`: how long a stop waits for requests in flight. Default 20000.
    pub drain_timeout_ms: u64,
    /// `http.public_url`: base URL of the public listener. Default none: `pay_url` is a path.
    pub public_url: Option<String>,
    /// `http.trusted_proxies`: networks of proxies, such as `["10.0.0.0/8", "2001:db8::1/128"]`,
    /// whose entries in `X-Forwarded-For` are trusted. Default none: the peer is the client.
    pub trusted_proxies: Vec<IpNet>,
    /// `http.cors_origins`: origins of other sites that may call the public listener. Default none.
    pub cors_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 8080)),
            operations: SocketAddr::from(([127, 0, 0, 1], 8081)),
            workers: 0,
            shared_runtime: false,
            backlog: 4096,
            max_connections: 16_384,
            head_bytes: 16 * 1024,
            head_fields: 64,
            body_bytes: 16 * 1024,
            handshake_timeout_ms: 10_000,
            head_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            request_timeout_ms: 15_000,
            operations_body_timeout_ms: 120_000,
            operations_request_timeout_ms: 600_000,
            drain_timeout_ms: 20_000,
            public_url: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
        }
    }
}

impl HttpConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let mut within = |key: &str, value: u64, allowed| super::range::within(problems, key, value, allowed);
        within("http.workers", self.workers as u64, 0..=1024);
        within("http.backlog", self.backlog.into(), 1..=32_767);
        within("http.max_connections", self.max_connections as u64, 1..=1_000_000);
        within("http.head_bytes", self.head_bytes as u64, 1024..=65_536);
        within("http.head_fields", self.head_fields as u64, 8..=100);
        within("http.body_bytes", self.body_bytes as u64, 1024..=1 << 20);
        for (key, value) in [
            ("http.handshake_timeout_ms", self.handshake_timeout_ms),
            ("http.head_timeout_ms", self.head_timeout_ms),
            ("http.idle_timeout_ms", self.idle_timeout_ms),
            ("http.write_timeout_ms", self.write_timeout_ms),
            ("http.body_timeout_ms", self.body_timeout_ms),
            ("http.request_timeout_ms", self.request_timeout_ms),
            ("http.drain_timeout_ms", self.drain_timeout_ms),
        ] {
            within(key, value, 1..=600_000);
        }
        within("http.operations_body_timeout_ms", self.operations_body_timeout_ms, 1..=3_600_000);
        within("http.operations_request_timeout_ms", self.operations_request_timeout_ms, 1..=3_600_000);
        if self.public_url.as_deref().is_some_and(|url| !is_base(url)) {
            problems.push(
                "http.public_url: give scheme and host without a trailing slash, such as https://shop.example"
                    .to_owned(),
            );
        }
    }

    /// Returns `handshake_timeout_ms` as a duration.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// Returns `head_timeout_ms` as a duration.
    pub fn head_timeout(&self) -> Duration {
        Duration::from_millis(self.head_timeout_ms)
    }

    /// Returns `idle_timeout_ms` as a duration.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// Returns `write_timeout_ms` as a duration.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// Returns `body_timeout_ms` as a duration.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// Returns `request_timeout_ms` as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Returns `drain_timeout_ms` as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// Returns the settings of the operations listener: the same with its own time limits.
    #[must_use]
    pub fn for_operations(&self) -> Self {
        Self {
            body_timeout_ms: self.operations_body_timeout_ms,
            request_timeout_ms: self.operations_request_timeout_ms,
            ..self.clone()
        }
    }
}

fn is_base(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    !host.is_empty() && !host.ends_with('/') && host.bytes().all(|byte| byte.is_ascii_graphic())
}
