//! The client's address behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use hyper::{HeaderMap, header::HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client's address: the peer, unless the peer is a trusted proxy.
///
/// A trusted proxy appends its peer's address to `X-Forwarded-For`. So the field is read from the
/// right: the first address that is not a trusted proxy is the client's. Entries further left are
/// unverified and ignored. `Forwarded` (RFC 7239) is ignored.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    let fields: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    for field in fields.into_iter().rev() {
        // Parse bytes: garbage that a client sent must not hide what a proxy appended.
        for entry in field.as_bytes().rsplit(|byte| *byte == b',') {
            // An invalid entry ends the trail at the last trusted proxy.
            let Some(address) = parsed(entry.trim_ascii()) else { return client };
            client = address;
            if !is_trusted(client, trusted) {
                return client;
            }
        }
    }
    client
}

/// Returns whether an address, in its canonical form, belongs to a trusted proxy.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Parses an address with or without a port. An IPv6 address with a port is in brackets.
fn parsed(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?;
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn nets() -> Vec<IpNet> {
        ["10.0.0.0/8", "192.0.2.7/32", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap()).into()
    }

    fn seen(peer: &str, fields: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &nets()).to_string()
    }

    #[test]
    fn the_table_of_peers_and_fields() {
        let table: &[(&str, &[&str], &str)] = &[
            // The peer is not trusted: the field is ignored.
            ("198.51.100.1", &[], "198.51.100.1"),
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("198.51.100.1", &["10.0.0.1"], "198.51.100.1"),
            ("::1", &["203.0.113.9"], "::1"),
            ("192.0.2.8", &["203.0.113.9"], "192.0.2.8"),
            ("2001:db8:fffe::1", &["203.0.113.9"], "2001:db8:fffe::1"),
            // One trusted proxy: the last entry is what it saw.
            ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("192.0.2.7", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("2001:db8:ffff::1", &["2001:db8:1::5"], "2001:db8:1::5"),
            ("10.1.2.3", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["1.1.1.1,2.2.2.2,203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9", "1.1.1.1"], "1.1.1.1"),
            // A chain of trusted proxies.
            ("10.1.2.3", &["203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("10.1.2.3", &["6.6.6.6, 203.0.113.9, 10.9.9.9, 192.0.2.7"], "203.0.113.9"),
            ("10.1.2.3", &["6.6.6.6, 203.0.113.9", "10.9.9.9"], "203.0.113.9"),
            ("10.1.2.3", &["10.8.8.8, 10.9.9.9"], "10.8.8.8"),
            // A forged trusted address does not hide the attacker's own.
            ("10.1.2.3", &["6.6.6.6, 10.0.0.1, 203.0.113.9"], "203.0.113.9"),
            // Forms.
            ("10.1.2.3", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.1.2.3", &["[2001:db8:1::5]:443"], "2001:db8:1::5"),
            ("10.1.2.3", &["[2001:db8:1::5]"], "2001:db8:1::5"),
            ("10.1.2.3", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // An invalid entry ends the trail at the last trusted proxy.
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &[""], "10.1.2.3"),
            ("10.1.2.3", &["unknown"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9,"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9, unknown"], "10.1.2.3"),
            ("10.1.2.3", &["unknown, 10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &["203.0.113.9; 10.9.9.9"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.256"], "10.1.2.3"),
            ("10.1.2.3", &["0x7f.1"], "10.1.2.3"),
            ("10.1.2.3", &["\u{7f51}"], "10.1.2.3"),
        ];
        for (peer, fields, client) in table {
            assert_eq!(seen(peer, fields), *client, "{peer} {fields:?}");
        }
    }

    /// Headers that carry client addresses in some deployments.
    const NAMES: [&str; 8] = [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "via",
    ];

    fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
        const PARTS: [&str; 12] = [
            "10.0.0.1",
            "203.0.113.9",
            ",",
            ", ",
            " ",
            "2001:db8:ffff::1",
            "[::1]:80",
            "for=",
            "\"",
            "unknown",
            ":",
            "1",
        ];
        let mut bytes = Vec::new();
        for _ in 0..random.usize(0..8) {
            match random.u8(0..4) {
                0 => bytes.push(random.u8(0x20..0x7f)),
                1 => bytes.push(random.u8(0x80..)),
                _ => bytes.extend(PARTS[random.usize(0..PARTS.len())].bytes()),
            }
        }
        bytes
    }

    fn random_headers(random: &mut fastrand::Rng) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..random.usize(0..5) {
            let name = HeaderName::from_static(NAMES[random.usize(0..NAMES.len())]);
            if let Ok(value) = HeaderValue::from_bytes(&noise(random)) {
                headers.append(name, value);
            }
        }
        headers
    }

    #[test]
    fn no_header_of_an_untrusted_peer_changes_its_address() {
        let mut random = fastrand::Rng::with_seed(0x0f0f);
        let peer: IpAddr = "198.51.100.1".parse().unwrap();
        for _ in 0..100_000 {
            let headers = random_headers(&mut random);
            assert_eq!(client_address(peer, &headers, &nets()), peer, "{headers:?}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_changes_what_its_proxy_saw() {
        let mut random = fastrand::Rng::with_seed(0xf0f0);
        let client: IpAddr = "203.0.113.9".parse().unwrap();
        for _ in 0..100_000 {
            let mut headers = random_headers(&mut random);
            // A proxy appends to the last field, or adds one of its own.
            let mut fields: Vec<Vec<u8>> =
                headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.as_bytes().to_vec()).collect();
            match fields.last_mut().filter(|_| random.bool()) {
                Some(last) => last.extend(b", 203.0.113.9"),
                None => fields.push(b"203.0.113.9".to_vec()),
            }
            headers.remove(X_FORWARDED_FOR);
            for field in &fields {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(field).unwrap());
            }
            let seen = client_address("10.1.2.3".parse().unwrap(), &headers, &nets());
            assert_eq!(seen, client, "{headers:?}");
        }
    }
}
