//! Rejects heads with an ambiguous host or body length. A proxy in front may interpret them
//! differently, which allows request smuggling (RFC 9112, sections 3.2, 6.1 and 11.2).

use hyper::{
    HeaderMap, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    http::request::Parts,
};

use super::Problem;

/// Returns the problem of an ambiguous head. hyper has already rejected malformed HTTP,
/// contradictory lengths, and transfer codings without `chunked`.
pub(super) fn refusal(head: &Parts) -> Option<Problem> {
    let problem = |detail| Some(Problem::invalid(detail));
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => {}
        (None, None) if head.version == Version::HTTP_10 => {}
        _ => return problem("Send exactly one Host field: a name or an address, optionally with a port."),
    }
    let scheme = head.uri.scheme_str();
    if head.uri.authority().is_some() && !scheme.is_some_and(|scheme| matches!(scheme, "http" | "https")) {
        return problem("The request target must be a path or a complete http or https URL.");
    }
    if has_chunks(&head.headers) {
        let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
        let is_plain =
            codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !is_plain || codings.next().is_some() {
            return problem("Send the body with a Content-Length, or with Transfer-Encoding: chunked alone.");
        }
        if head.headers.contains_key(CONTENT_LENGTH) {
            return problem("Send either Content-Length or Transfer-Encoding, not both.");
        }
    }
    None
}

/// Returns whether the body is chunked. The connection closes after such a request: hyper drops a
/// Content-Length that follows the coding, so an ambiguous length may go unnoticed.
pub(super) fn has_chunks(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
}

/// Checks for `NAME[:PORT]`; the name may be an IPv4 address or an IPv6 address in brackets.
fn is_host(host: &[u8]) -> bool {
    let split = |at: usize| host.split_at(at);
    let (name_is_good, port) = if host.first() == Some(&b'[') {
        let Some(end) = host.iter().position(|byte| *byte == b']') else { return false };
        let (address, port) = split(end + 1);
        let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        (address.len() > 2 && address[1..end].iter().all(is_address), port)
    } else {
        let (name, port) = split(host.iter().position(|byte| *byte == b':').unwrap_or(host.len()));
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (!name.is_empty() && name.iter().all(is_part), port)
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => {
            let port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
            digits.iter().all(u8::is_ascii_digit) && port.is_some()
        }
        _ => false,
    };
    name_is_good && port_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port_or_without() {
        for good in
            ["shop", "shop.example:8080", "127.0.0.1", "[::1]", "[::ffff:1.2.3.4]:80", "a_b-c.example"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "shop:",
            "shop:99999",
            "shop:+80",
            "shop:8a",
            "a b",
            "a/b",
            "a@b",
            "[]",
            "[::1",
            "[::1]80",
            "店",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
