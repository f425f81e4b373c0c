//! Origins of web pages (RFC 6454) as browsers send them.

use url::Url;

const EXAMPLE: &str = "such as \"https://shop.example\"";

/// Returns why no browser sends this origin, and what to write instead; `None` if they do.
pub(super) fn problem(text: &str) -> Option<String> {
    if text.contains('*') {
        return Some(format!("wildcards are not supported; write each origin by itself, {EXAMPLE}"));
    }
    let has_scheme = text.contains("://");
    let sent = as_sent(text).or_else(|| as_sent(&format!("https://{text}")).filter(|_| !has_scheme));
    match sent.filter(|_| text != "null") {
        Some(sent) if sent == text => None,
        Some(sent) => Some(format!("browsers do not send it like this; write \"{sent}\"")),
        None => Some(format!("is no origin; write scheme and host, {EXAMPLE}")),
    }
}

/// Writes the origin of a URL as browsers do: a lower-case scheme, the host in lower case and
/// Punycode, the port unless it is the default one, and nothing else.
fn as_sent(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_accepted_exactly_as_browsers_send_them() {
        for good in [
            "https://shop.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://xn--fiqs8s.example",
            "capacitor://localhost",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, write) in [
            ("https://shop.example/", "https://shop.example"),
            ("https://Shop.Example", "https://shop.example"),
            ("HTTPS://shop.example", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("http://shop.example:80", "http://shop.example"),
            ("https://shop.example:0443/a?b#c", "https://shop.example"),
            ("https://ann:hidden@shop.example", "https://shop.example"),
            ("https://中国.example", "https://xn--fiqs8s.example"),
            (" https://shop.example", "https://shop.example"),
            ("shop.example", "https://shop.example"),
            ("shop.example:8443", "https://shop.example:8443"),
        ] {
            let problem = problem(bad).unwrap();
            assert!(problem.ends_with(&format!("write \"{write}\"")), "{bad}: {problem}");
            assert!(!problem.contains("hidden"), "{problem}");
        }
        for bad in ["*", "https://*.shop.example", "null", "", "file:///", "https://"] {
            assert!(problem(bad).unwrap().ends_with(EXAMPLE), "{bad}");
        }
    }
}
