//! Where a listener listens.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
};

use serde::{Deserialize, Serialize};

/// An IP address or the name of a host, with a port; port 0 selects a free one.
///
/// ```
/// # use reference_server::config::ListenAddress;
/// for good in ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"] {
///     assert!(ListenAddress::try_from(good.to_owned()).is_ok());
/// }
/// assert!(ListenAddress::try_from("8080".to_owned()).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(String);

/// A text is not a listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not an address or a name with a port; write one such as 127.0.0.1:8080, [::1]:8080 or \
     localhost:8080, or 0.0.0.0:8080 for every network"
)]
pub struct NotAListenAddress;

impl ListenAddress {
    /// Returns the address to bind. A name stands for its first IPv4 address, or, if it has none, for
    /// its first IPv6 address. Blocks while a name is looked up.
    ///
    /// # Errors
    /// If the name is unknown or cannot be looked up.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let addresses: Vec<SocketAddr> = self.0.to_socket_addrs()?.collect();
        let preferred = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        preferred.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }

    /// Whether the system chooses the port.
    pub(super) fn is_any_port(&self) -> bool {
        self.0.ends_with(":0")
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = NotAListenAddress;

    fn try_from(text: String) -> Result<Self, NotAListenAddress> {
        if text.parse::<SocketAddr>().is_ok() || is_name_with_port(&text) {
            Ok(Self(text))
        } else {
            Err(NotAListenAddress)
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.0
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name_with_port(text: &str) -> bool {
    let Some((name, port)) = text.split_once(':') else { return false };
    let port_is_good = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_part)
    };
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    // The last label of a name is not a number (RFC 3696): this is a mistyped IPv4 address.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    port_is_good
        && name.len() <= 253
        && labels.clone().all(is_label)
        && labels.next_back().is_some_and(|last| !is_number(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_need_a_port() {
        for good in
            ["127.0.0.1:8080", "0.0.0.0:0", "[::]:80", "localhost:8080", "shop-1.internal:443", "a_b.c.:1"]
        {
            assert_eq!(ListenAddress::try_from(good.to_owned()).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "8080",
            ":8080",
            "*:8080",
            "localhost",
            "127.0.0.1",
            "127.0.0.256:80",
            "::1:8080",
            "localhost:http",
            "localhost:+80",
            "localhost:",
            "localhost:65536",
            "http://localhost:8080",
            "a..b:80",
            "a b:80",
            "店:80",
        ] {
            assert_eq!(ListenAddress::try_from(bad.to_owned()), Err(NotAListenAddress), "{bad}");
        }
    }

    #[test]
    fn a_name_is_resolved_to_an_address_of_ipv4_first() {
        let address = ListenAddress::try_from("localhost:8080".to_owned()).unwrap();
        assert_eq!(address.resolve().unwrap(), "127.0.0.1:8080".parse().unwrap());
        let address = ListenAddress::try_from("[::1]:8080".to_owned()).unwrap();
        assert_eq!(address.resolve().unwrap(), "[::1]:8080".parse().unwrap());
    }
}
