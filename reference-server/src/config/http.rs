//! `[http]`: listeners, runtimes and transport limits.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hyper::header::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

use super::{ListenAddress, origin};

/// Request headers that pages of other origins may send, unless the configuration lists others:
/// those of the HTTP contract, conditional requests, and W3C trace context and baggage.
const CORS_HEADERS: [&str; 10] = [
    "authorization",
    "content-type",
    "flashsale-device",
    "flashsale-receipt",
    "idempotency-key",
    "prefer",
    "if-none-match",
    "traceparent",
    "tracestate",
    "baggage",
];

/// First segments of the public listener's own paths, which a health path must not hide.
pub(crate) const TAKEN: [&str; 11] = [
    "",
    "activities",
    "archive",
    "assets",
    "en",
    "openapi.json",
    "orders",
    "products",
    "sandbox",
    "v1",
    "zh",
];
/// Maximum segments and bytes of a health path.
const HEALTH_SEGMENTS: usize = 8;
const HEALTH_BYTES: usize = 128;

/// Listeners, runtimes and transport limits; table `[http]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// `http.public`: where to listen for buyers. Default 127.0.0.1:8080.
    pub public: ListenAddress,
    /// `http.operations`: where to listen for operators. Default 127.0.0.1:8081.
    pub operations: ListenAddress,
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
    /// `http.health_path`: where the public listener answers health probes like `/healthz` of the
    /// operations listener, such as `/healthz`. Default none: it does not.
    pub health_path: Option<String>,
    /// `http.proxy_protocol`: whether each connection to the public listener from one of
    /// `trusted_proxies` begins with a header of the PROXY protocol, version 1 or 2. Default false.
    pub proxy_protocol: bool,
    /// `http.operations_proxy_protocol`: the same for the operations listener. Default false.
    pub operations_proxy_protocol: bool,
    /// `http.trusted_proxies`: addresses and networks of proxies, such as
    /// `["192.0.2.7", "10.0.0.0/8"]`, whose entries in `X-Forwarded-For` and PROXY headers are
    /// trusted. Default none: the peer is the client.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// `http.cors_origins`: origins of other sites that may call the public listener, as browsers
    /// send them, such as `["https://shop.example"]`. Default none.
    pub cors_origins: Vec<String>,
    /// `http.cors_headers`: request headers that pages of these origins may send. Default: those of
    /// the HTTP contract, `if-none-match`, `traceparent`, `tracestate` and `baggage`.
    #[serde(serialize_with = "as_texts", deserialize_with = "header_names")]
    pub cors_headers: Vec<HeaderName>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 8080)).into(),
            operations: SocketAddr::from(([127, 0, 0, 1], 8081)).into(),
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
            health_path: None,
            proxy_protocol: false,
            operations_proxy_protocol: false,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            cors_headers: CORS_HEADERS.map(HeaderName::from_static).into(),
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
        if self.operations == self.public && !self.public.is_any_port() {
            problems.push("http.operations: is the address of http.public; give another port".to_owned());
        }
        if self.public_url.as_deref().is_some_and(|url| !is_base(url)) {
            problems.push(
                "http.public_url: give scheme and host without a trailing slash, such as https://shop.example"
                    .to_owned(),
            );
        }
        if let Some(problem) = self.health_path.as_deref().and_then(health_path_problem) {
            problems.push(format!("http.health_path: {problem}, such as /healthz"));
        }
        for (key, on) in [
            ("http.proxy_protocol", self.proxy_protocol),
            ("http.operations_proxy_protocol", self.operations_proxy_protocol),
        ] {
            if on && self.trusted_proxies.is_empty() {
                problems
                    .push(format!("{key}: no header is believed; list the proxies in http.trusted_proxies"));
            }
        }
        for (index, text) in self.cors_origins.iter().enumerate() {
            let problem =
                origin::problem(text).map(|problem| format!("http.cors_origins[{index}]: {problem}"));
            problems.extend(problem);
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
            proxy_protocol: self.operations_proxy_protocol,
            ..self.clone()
        }
    }
}

/// Returns why the public listener cannot answer probes at `path`; `None` if it can.
fn health_path_problem(path: &str) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let Some(segments) = path.strip_prefix('/').map(|rest| rest.split('/')) else {
        return Some("begin it with a slash");
    };
    if segments.clone().next().is_some_and(|first| TAKEN.contains(&first)) {
        return Some("the listener has other content there; give a path of its own");
    }
    let fits = path.len() <= HEALTH_BYTES && segments.clone().count() <= HEALTH_SEGMENTS;
    let is_good =
        fits && segments.clone().all(|segment| !segment.is_empty() && segment.bytes().all(is_plain));
    (!is_good).then_some("use only letters, digits, `-`, `.`, `_` and `~` between the slashes")
}

fn is_base(url: &str) -> bool {
    let begins = url.starts_with("https://") || url.starts_with("http://");
    let is_plain = begins && !url.ends_with('/') && url.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain
        && Url::parse(url).is_ok_and(|url| {
            let has_user = !url.username().is_empty() || url.password().is_some();
            !has_user && url.query().is_none() && url.fragment().is_none()
        })
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = |(index, text): (usize, &String)| {
        network(text).ok_or_else(|| {
            let number = index + 1;
            D::Error::custom(format!(
                "entry {number} is no address and no network; write one such as 192.0.2.7 or 10.0.0.0/8"
            ))
        })
    };
    texts.iter().enumerate().map(read).collect()
}

/// Parses a network, or an address as a network of one. Peers are compared in their canonical form,
/// so addresses that IPv6 maps from IPv4 become IPv4.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(address)) => {
            Ipv4Net::new(address, mapped.prefix_len().checked_sub(96)?).ok().map(IpNet::V4)
        }
        _ => Some(network),
    }
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = |text: &String| {
        // To browsers `*` does not include `authorization`.
        let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text != "*");
        name.ok_or_else(|| {
            D::Error::custom("write each header by its name, such as \"authorization\"; `*` is not enough")
        })
    };
    texts.iter().map(read).collect()
}

fn as_texts<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_addresses_or_networks() {
        let table = [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.0/90", None),
            ("::/0", Some("::/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.1:80", None),
            ("proxy.example", None),
            ("", None),
        ];
        for (text, expected) in table {
            let expected: Option<IpNet> = expected.map(|network| network.parse().unwrap());
            assert_eq!(network(text), expected, "{text}");
        }
    }

    #[test]
    fn a_health_path_hides_nothing() {
        for good in ["/healthz", "/-/live", "/a/b.c/~d_e"] {
            assert_eq!(health_path_problem(good), None, "{good}");
        }
        let long = format!("/{}", "a".repeat(HEALTH_BYTES));
        for bad in
            ["", "healthz", "/", "//a", "/healthz/", "/v1/health", "/en", "/a?b", "/a%20b", "/a b", &long]
        {
            assert!(health_path_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_base_url_is_scheme_host_and_path() {
        for good in ["https://shop.example", "http://127.0.0.1:8080", "https://example.com/shop"] {
            assert!(is_base(good), "{good}");
        }
        for bad in [
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example?a=1",
            "https://shop.example#a",
            "https://ann:secret@shop.example",
            "https://shop.example:99999",
            "https://shop example",
            "ftp://shop.example",
        ] {
            assert!(!is_base(bad), "{bad}");
        }
    }
}
