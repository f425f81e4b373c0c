//! Malformed, ambiguous and smuggling requests, byte for byte. Each gets the documented error or
//! the correct response, never a 5xx or silence. No smuggled request is ever answered.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::shop::Shop;

/// The bytes that are sent on a connection, and the expected statuses.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
    /// Whether the client closes its side early, so that the announced bytes never arrive.
    is_truncated: bool,
}

/// A truncated request.
fn cut(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16]) -> Case {
    Case { is_truncated: true, ..case(name, bytes, statuses) }
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16]) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), statuses, is_truncated: false }
}

/// A smuggled request. If the server parsed it, it would answer 404.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: shop\r\n\r\n";

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("a plain request", "GET /v1/time HTTP/1.1\r\nhost: shop\r\n\r\n", &[200]),
        case("two requests", format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\n\r\n{HIDDEN}"), &[200, 404]),
    ];
    cases.extend(request_lines());
    cases.extend(hosts());
    cases.extend(fields());
    cases.extend(lengths());
    cases.extend(chunks());
    cases.extend(targets());
    cases.extend(bodies());
    cases
}

/// Request lines, followed only by a `Host` field.
fn request_lines() -> Vec<Case> {
    const BAD: &[u16] = &[400];
    let lines: &[(&'static str, &str, &'static [u16])] = &[
        ("no method", " /v1/time HTTP/1.1", BAD),
        ("no target", "GET  HTTP/1.1", BAD),
        ("no version", "GET /v1/time", BAD),
        ("no version but a space", "GET /v1/time ", BAD),
        ("two spaces before the target", "GET  /v1/time HTTP/1.1", BAD),
        ("two spaces before the version", "GET /v1/time  HTTP/1.1", BAD),
        ("a tab before the target", "GET\t/v1/time HTTP/1.1", BAD),
        ("a tab before the version", "GET /v1/time\tHTTP/1.1", BAD),
        ("a space after the version", "GET /v1/time HTTP/1.1 ", BAD),
        ("a word after the version", "GET /v1/time HTTP/1.1 more", BAD),
        ("a space in the target", "GET /v1/ time HTTP/1.1", BAD),
        ("HTTP/0.9", "GET /v1/time HTTP/0.9", BAD),
        ("HTTP/1.2", "GET /v1/time HTTP/1.2", BAD),
        ("HTTP/2.0", "GET /v1/time HTTP/2.0", BAD),
        ("HTTP/1", "GET /v1/time HTTP/1", BAD),
        ("HTTP/1.", "GET /v1/time HTTP/1.", BAD),
        ("HTTP/1.10", "GET /v1/time HTTP/1.10", BAD),
        ("HTTP/11", "GET /v1/time HTTP/11", BAD),
        ("HTTP/ 1.1", "GET /v1/time HTTP/ 1.1", BAD),
        ("lower-case http", "GET /v1/time http/1.1", BAD),
        ("another protocol", "GET /v1/time ICY/1.1", BAD),
        ("a lower-case method is another method", "get /v1/time HTTP/1.1", &[405]),
        ("an unknown method", "BREW /v1/time HTTP/1.1", &[405]),
        ("a method of 100 letters", &format!("{} /v1/time HTTP/1.1", "A".repeat(100)), &[405]),
        ("a method with a colon", "GE:T /v1/time HTTP/1.1", BAD),
        ("a method with a slash", "GE/T /v1/time HTTP/1.1", BAD),
        ("a method with a quote", "\"GET\" /v1/time HTTP/1.1", BAD),
        ("a method with a byte above ASCII", "GÉT /v1/time HTTP/1.1", BAD),
        ("a method with a NUL", "GET\0 /v1/time HTTP/1.1", BAD),
        ("a target with a NUL", "GET /v1/time\0 HTTP/1.1", BAD),
        ("a target with a DEL", "GET /v1/time\x7f HTTP/1.1", BAD),
        ("a target with a carriage return", "GET /v1/\rtime HTTP/1.1", BAD),
        ("a TRACE", "TRACE /v1/time HTTP/1.1", &[405]),
        ("the preface of HTTP/2", "PRI * HTTP/2.0", BAD),
        ("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01", BAD),
        ("a greeting of another protocol", "EHLO shop.example", BAD),
    ];
    lines
        .iter()
        .map(|(name, line, statuses)| case(name, format!("{line}\r\nhost: shop\r\n\r\n"), statuses))
        .chain([
            case("nothing at all", "", &[]),
            case(
                "one empty line before the request",
                "\r\nGET /v1/time HTTP/1.1\r\nhost: shop\r\n\r\n",
                &[200],
            ),
            case("half a request line", "GET /v1/ti", &[]),
            case("a request line only", "GET /v1/time HTTP/1.1\r\n", &[]),
            case("a head without its end", "GET /v1/time HTTP/1.1\r\nhost: shop\r\n", &[]),
            case("a thousand NULs", "\0".repeat(1_000), BAD),
        ])
        .collect()
}

/// `Host` fields. Exactly one is required.
fn hosts() -> Vec<Case> {
    let hosts: &[(&'static str, &str, &'static [u16])] = &[
        ("no host", "", &[400]),
        ("an empty host", "host:\r\n", &[400]),
        ("a host of spaces", "host:   \r\n", &[400]),
        ("two hosts", "host: shop\r\nhost: other\r\n", &[400]),
        ("the same host twice", "host: shop\r\nhost: shop\r\n", &[400]),
        ("a host in two cases", "host: shop\r\nHOST: other\r\n", &[400]),
        ("two hosts in one field", "host: shop, other\r\n", &[400]),
        ("a host with a user", "host: user@shop\r\n", &[400]),
        ("a host with a path", "host: shop/hidden\r\n", &[400]),
        ("a host with a scheme", "host: http://shop\r\n", &[400]),
        ("a host with a space", "host: sh op\r\n", &[400]),
        ("a host with a port", "host: shop:8080\r\n", &[200]),
        ("a host with a port that is not a number", "host: shop:port\r\n", &[400]),
        ("a host with a port that is too large", "host: shop:99999\r\n", &[400]),
        ("an address as host", "host: 127.0.0.1:8080\r\n", &[200]),
        ("an IPv6 address as host", "host: [::1]:8080\r\n", &[200]),
        ("half an IPv6 address as host", "host: [::1\r\n", &[400]),
        ("a host in UTF-8", "host: 商店\r\n", &[400]),
    ];
    hosts
        .iter()
        .map(|(name, fields, statuses)| {
            case(name, format!("GET /v1/time HTTP/1.1\r\n{fields}\r\n"), statuses)
        })
        .chain([
            case("HTTP/1.0 needs no host", "GET /v1/time HTTP/1.0\r\n\r\n", &[200]),
            case("HTTP/1.0 closes", format!("GET /v1/time HTTP/1.0\r\n\r\n{HIDDEN}"), &[200]),
        ])
        .collect()
}

/// Other header fields, after `Host`.
fn fields() -> Vec<Case> {
    let fields: &[(&'static str, &str, &'static [u16])] = &[
        ("a field without a colon", "x-field\r\n", &[400]),
        ("a field without a name", ": value\r\n", &[400]),
        ("a space before the colon", "x-field : value\r\n", &[400]),
        ("a tab before the colon", "x-field\t: value\r\n", &[400]),
        ("a space in a name", "x field: value\r\n", &[400]),
        ("a NUL in a name", "x\0field: value\r\n", &[400]),
        ("a name in UTF-8", "x-字段: value\r\n", &[400]),
        ("a bracket in a name", "x[field]: value\r\n", &[400]),
        ("an empty value", "x-field:\r\n", &[200]),
        ("a value with spaces around", "x-field:   value  \r\n", &[200]),
        ("a value in UTF-8", "x-field: 值\r\n", &[200]),
        ("a NUL in a value", "x-field: a\0b\r\n", &[400]),
        ("a bell in a value", "x-field: a\x07b\r\n", &[400]),
        ("a carriage return in a value", "x-field: a\rb\r\n", &[400]),
        ("a folded value", "x-field: a\r\n b\r\n", &[400]),
        ("a value folded with a tab", "x-field: a\r\n\tb\r\n", &[400]),
        ("a folded first field", " x-field: a\r\n", &[400]),
        ("the same field many times", "x-field: a\r\nx-field: b\r\nx-field: c\r\n", &[200]),
        ("a connection field that names the host", "connection: host\r\n", &[200]),
        ("an unsupported upgrade", "connection: upgrade\r\nupgrade: websocket\r\n", &[200]),
        (
            "an upgrade to HTTP/2",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
            &[200],
        ),
        ("an unknown expectation", "expect: miracles\r\n", &[200]),
        ("a Trailer field without chunks", "trailer: x-field\r\n", &[200]),
    ];
    fields
        .iter()
        .map(|(name, fields, statuses)| {
            case(name, format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\n{fields}\r\n"), statuses)
        })
        .chain([
            case("lines that end with a bare line feed", "GET /v1/time HTTP/1.1\nhost: shop\n\n", &[200]),
            case(
                "one field of 20,000 bytes",
                format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\nx: {}\r\n\r\n", "a".repeat(20_000)),
                &[431],
            ),
            case(
                "a name of 20,000 bytes",
                format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\n{}: a\r\n\r\n", "a".repeat(20_000)),
                &[431],
            ),
            case(
                "1,000 fields",
                format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\n{}\r\n", "x: y\r\n".repeat(1_000)),
                &[431],
            ),
            case(
                "65 fields",
                format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\n{}\r\n", "x: y\r\n".repeat(64)),
                &[431],
            ),
        ])
        .collect()
}

/// Body lengths. Another request follows the body, or appears to.
fn lengths() -> Vec<Case> {
    let length = HIDDEN.len();
    let with = |fields: &str, rest: &str| {
        format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n{fields}\r\n{rest}"
        )
    };
    let good = r#"{"user_id":"7","user_name":"Li"}"#;
    let size = good.len();
    vec![
        case("a body of the declared length", with(&format!("content-length: {size}\r\n"), good), &[200]),
        case(
            "a body, then a request",
            with(&format!("content-length: {size}\r\n"), &format!("{good}{HIDDEN}")),
            &[200, 404],
        ),
        case("a request as the body", with(&format!("content-length: {length}\r\n"), HIDDEN), &[400]),
        case(
            "a repeated length",
            with(&format!("content-length: {size}\r\ncontent-length: {size}\r\n"), good),
            &[200],
        ),
        case(
            "two lengths",
            with(&format!("content-length: {size}\r\ncontent-length: 0\r\n"), &format!("{good}{HIDDEN}")),
            &[400],
        ),
        case(
            "two lengths in reverse order",
            with(&format!("content-length: 0\r\ncontent-length: {length}\r\n"), HIDDEN),
            &[400],
        ),
        case("two lengths in one field", with(&format!("content-length: {size}, {size}\r\n"), good), &[400]),
        case("a negative length", with("content-length: -1\r\n", HIDDEN), &[400]),
        case("a length with a plus", with(&format!("content-length: +{size}\r\n"), good), &[400]),
        case("a length in hexadecimal", with("content-length: 0x10\r\n", HIDDEN), &[400]),
        case("a length with a letter", with("content-length: 1O\r\n", HIDDEN), &[400]),
        case("a length with a space", with("content-length: 1 0\r\n", HIDDEN), &[400]),
        case("a length with a fraction", with("content-length: 10.0\r\n", HIDDEN), &[400]),
        case("an empty length", with("content-length:\r\n", HIDDEN), &[400]),
        case("a length beyond 2^64", with("content-length: 18446744073709551616\r\n", HIDDEN), &[400]),
        case("a length of 2^64 - 1", with("content-length: 18446744073709551615\r\n", HIDDEN), &[431]),
        case("a length of 2^63", with("content-length: 9223372036854775808\r\n", HIDDEN), &[413]),
        case("a length with leading zeros", with(&format!("content-length: 000{size}\r\n"), good), &[200]),
        case("a length in full-width digits", with("content-length: ３２\r\n", good), &[400]),
        case("a length with a NUL", with("content-length: 1\x000\r\n", HIDDEN), &[400]),
        case("a folded length", with("content-length:\r\n 10\r\n", HIDDEN), &[400]),
        case(
            "a space before the colon of a length",
            with(&format!("content-length : {size}\r\n"), good),
            &[400],
        ),
        case("a length below the body", with("content-length: 2\r\n", &format!("{{}}{HIDDEN}")), &[400, 404]),
        cut("a length above the body", with("content-length: 500\r\n", good), &[400]),
        cut("a length and no body", with("content-length: 10\r\n", ""), &[400]),
        case("no length", with("", good), &[400, 400]),
        case(
            "a GET with a body",
            format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
            &[200],
        ),
        case(
            "a GET with a length of 0",
            format!("GET /v1/time HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n{HIDDEN}"),
            &[200, 404],
        ),
        case("a declared length above the limit", with("content-length: 17000\r\n", ""), &[413]),
        case(
            "a length and chunks",
            with(
                &format!("content-length: {size}\r\ntransfer-encoding: chunked\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            &[400],
        ),
        case(
            "chunks and a length",
            with(
                &format!("transfer-encoding: chunked\r\ncontent-length: {size}\r\n"),
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
            &[400],
        ),
    ]
}

/// Chunked bodies. The server then closes the connection, so nothing can hide behind them.
fn chunks() -> Vec<Case> {
    let with = |coding: &str, rest: &str| {
        format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n{coding}\r\n{rest}"
        )
    };
    let chunked = |rest: &str| with("transfer-encoding: chunked\r\n", rest);
    let good = r#"{"user_id":"7","user_name":"Li"}"#;
    let size = good.len();
    let whole = format!("{size:x}\r\n{good}\r\n0\r\n\r\n");
    let (first, second) = good.split_at(5);
    let halves = format!("5\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\n\r\n", second.len());
    vec![
        case("one chunk", chunked(&whole), &[200]),
        case("two chunks", chunked(&halves), &[200]),
        case("chunks, then a request", chunked(&format!("{whole}{HIDDEN}")), &[200]),
        case(
            "a chunk with an extension",
            chunked(&format!("{size:x};name=value\r\n{good}\r\n0\r\n\r\n")),
            &[200],
        ),
        case(
            "a chunk with a space after its size",
            chunked(&format!("{size:x} \r\n{good}\r\n0\r\n\r\n")),
            &[200],
        ),
        case(
            "chunks with a trailer",
            chunked(&format!("{size:x}\r\n{good}\r\n0\r\nx-field: a\r\n\r\n")),
            &[200],
        ),
        case("a size that is not a number", chunked(&format!("zz\r\n{good}\r\n0\r\n\r\n")), &[400]),
        case("a negative size", chunked(&format!("-1\r\n{good}\r\n0\r\n\r\n")), &[400]),
        case("a size with 0x", chunked(&format!("0x{size:x}\r\n{good}\r\n0\r\n\r\n")), &[400]),
        case("an empty size", chunked(&format!("\r\n{good}\r\n0\r\n\r\n")), &[400]),
        case("a size beyond 2^64", chunked(&format!("fffffffffffffffff\r\n{good}\r\n0\r\n\r\n")), &[400]),
        cut("a size of 2^64 - 1", chunked(&format!("ffffffffffffffff\r\n{good}\r\n0\r\n\r\n")), &[400]),
        cut("a size above the chunk", chunked(&format!("{:x}\r\n{good}\r\n0\r\n\r\n", size + 9)), &[400]),
        case("a size below the chunk", chunked(&format!("5\r\n{good}\r\n0\r\n\r\n")), &[400]),
        case("no line end after a chunk", chunked(&format!("{size:x}\r\n{good}0\r\n\r\n")), &[400]),
        case("a size with a bare line feed", chunked(&format!("{size:x}\n{good}\r\n0\r\n\r\n")), &[400]),
        cut("chunks without an end", chunked(&format!("{size:x}\r\n{good}\r\n")), &[400]),
        cut("half a size", chunked("1"), &[400]),
        case(
            "an extension of 100,000 bytes",
            chunked(&format!("{size:x};{}\r\n{good}\r\n0\r\n\r\n", "a".repeat(100_000))),
            &[400],
        ),
        case(
            "a trailer of 100,000 bytes",
            chunked(&format!("{size:x}\r\n{good}\r\n0\r\nx: {}\r\n\r\n", "a".repeat(100_000))),
            &[400],
        ),
        case(
            "20,000 chunks of one byte",
            chunked(&format!("{}0\r\n\r\n", "1\r\n \r\n".repeat(20_000))),
            &[413],
        ),
        case("an unknown coding", with("transfer-encoding: zip\r\n", HIDDEN), &[400]),
        case("identity as the coding", with("transfer-encoding: identity\r\n", HIDDEN), &[400]),
        case("gzip, then chunked", with("transfer-encoding: gzip, chunked\r\n", &whole), &[400]),
        case("chunked, then gzip", with("transfer-encoding: chunked, gzip\r\n", &whole), &[400]),
        case("chunked twice", with("transfer-encoding: chunked, chunked\r\n", &whole), &[400]),
        case(
            "chunked in two fields",
            with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &whole),
            &[400],
        ),
        case(
            "chunked, then identity, in two fields",
            with("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &whole),
            &[400],
        ),
        case("a coding in capitals", with("transfer-encoding: CHUNKED\r\n", &whole), &[200]),
        case("a coding after a tab", with("transfer-encoding:\tchunked\r\n", &whole), &[200]),
        case("a coding after a control byte", with("transfer-encoding: \x0bchunked\r\n", &whole), &[400]),
        case("a coding in quotes", with("transfer-encoding: \"chunked\"\r\n", &whole), &[400]),
        case("a coding with a comma", with("transfer-encoding: ,chunked\r\n", &whole), &[400]),
        case("a space before the colon of a coding", with("transfer-encoding : chunked\r\n", &whole), &[400]),
        case("a folded coding", with("transfer-encoding:\r\n chunked\r\n", &whole), &[400]),
        case(
            "HTTP/1.0 with chunks",
            format!(
                "POST /v1/sessions HTTP/1.0\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{whole}"
            ),
            &[400],
        ),
        case(
            "a GET with chunks",
            format!(
                "GET /v1/time HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
            &[200],
        ),
    ]
}

/// Request targets of a GET.
fn targets() -> Vec<Case> {
    let targets: &[(&'static str, &str, &'static [u16])] = &[
        ("an absolute URL", "http://shop/v1/time", &[200]),
        ("an absolute URL of another host", "http://other.example/v1/time", &[200]),
        ("a URL of another scheme", "ftp://shop/v1/time", &[400]),
        ("an asterisk", "*", &[404]),
        ("a host and a port", "shop:80", &[400]),
        ("a relative path", "v1/time", &[400]),
        ("two slashes", "//v1/time", &[404]),
        ("a trailing slash", "/v1/time/", &[404]),
        ("a dot", "/v1/./time", &[404]),
        ("two dots", "/v1/../v1/time", &[404]),
        ("two dots beyond the root", "/../../etc/passwd", &[404]),
        ("two dots, escaped", "/v1/%2e%2e/v1/time", &[404]),
        ("an escaped slash", "/v1%2ftime", &[404]),
        ("an escaped letter", "/v1/tim%65", &[404]),
        ("an escaped NUL", "/v1/time%00", &[404]),
        ("an incomplete escape", "/v1/time%", &[404]),
        ("a backslash", "/v1\\time", &[404]),
        ("a semicolon", "/v1/time;a=b", &[404]),
        ("a fragment", "/v1/time#there", &[200]),
        ("an unknown parameter", "/v1/activities?debug=1", &[400]),
        ("a parameter twice", "/v1/activities?limit=1&limit=2", &[400]),
        ("a parameter that is not a number", "/v1/activities?limit=one", &[400]),
        ("a limit of 0", "/v1/activities?limit=0", &[400]),
        ("a limit of 101", "/v1/activities?limit=101", &[400]),
        ("an incomplete escape in a parameter", "/v1/activities?after=%", &[400]),
        ("an id that is too large", "/v1/activities/99999999999999999999", &[404]),
        ("a negative id", "/v1/activities/-1", &[404]),
        ("an id with a leading zero", "/v1/activities/01", &[404]),
        ("an id of 0", "/v1/activities/0", &[404]),
        ("a path in UTF-8", "/v1/时间", &[404]),
        ("a path of twenty segments", "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", &[404]),
    ];
    targets
        .iter()
        .map(|(name, target, statuses)| {
            case(name, format!("GET {target} HTTP/1.1\r\nhost: shop\r\n\r\n"), statuses)
        })
        .chain([
            case(
                "a target of 20,000 bytes",
                format!("GET /{} HTTP/1.1\r\nhost: shop\r\n\r\n", "a".repeat(20_000)),
                &[431],
            ),
            case("a CONNECT", "CONNECT shop:443 HTTP/1.1\r\nhost: shop\r\n\r\n", &[400]),
            case("OPTIONS for the whole server", "OPTIONS * HTTP/1.1\r\nhost: shop\r\n\r\n", &[404]),
            case("a HEAD", format!("HEAD /v1/time HTTP/1.1\r\nhost: shop\r\n\r\n{HIDDEN}"), &[200, 404]),
        ])
        .collect()
}

/// Bodies of a session request, with correct lengths.
fn bodies() -> Vec<Case> {
    let post = |kind: &str, body: &[u8]| {
        let mut bytes = format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: shop\r\n{kind}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    const JSON: &str = "content-type: application/json\r\n";
    let good = br#"{"user_id":"7","user_name":"Li"}"#;
    let deep = "[".repeat(16_000);
    vec![
        case("a body without a content type", post("", good), &[415]),
        case("a body of another content type", post("content-type: text/plain\r\n", good), &[415]),
        case(
            "two content types",
            post("content-type: text/plain\r\ncontent-type: application/json\r\n", good),
            &[415],
        ),
        case(
            "a content type with a charset",
            post("content-type: application/json; charset=utf-8\r\n", good),
            &[200],
        ),
        case(
            "a compressed body",
            post("content-type: application/json\r\ncontent-encoding: gzip\r\n", b"\x1f\x8b\x08\0"),
            &[415],
        ),
        case("an empty body", post(JSON, b""), &[400]),
        case("a body of spaces", post(JSON, b"   "), &[400]),
        case("half a JSON document", post(JSON, br#"{"user_id":"7""#), &[400]),
        case("two JSON documents", post(JSON, br#"{"user_id":"7","user_name":"Li"}{}"#), &[400]),
        case("a byte order mark", post(JSON, "\u{feff}{}".as_bytes()), &[400]),
        case("UTF-16", post(JSON, b"{\0\"\0u\0"), &[400]),
        case("a byte that is not UTF-8", post(JSON, b"{\"user_id\":\"7\",\"user_name\":\"\xff\"}"), &[400]),
        case("half a surrogate", post(JSON, br#"{"user_id":"7","user_name":"\ud800"}"#), &[400]),
        case(
            "an unknown field",
            post(JSON, br#"{"user_id":"7","user_name":"Li","role":"operator"}"#),
            &[400],
        ),
        case("a field twice", post(JSON, br#"{"user_id":"7","user_id":"8","user_name":"Li"}"#), &[400]),
        case("a number as the id", post(JSON, br#"{"user_id":7,"user_name":"Li"}"#), &[400]),
        case("a list", post(JSON, b"[]"), &[400]),
        case("null", post(JSON, b"null"), &[400]),
        case("NaN", post(JSON, br#"{"user_id":NaN,"user_name":"Li"}"#), &[400]),
        case("a number of 16,000 digits", post(JSON, "9".repeat(16_000).as_bytes()), &[400]),
        case("16,000 brackets", post(JSON, deep.as_bytes()), &[400]),
        case("a body of 16,385 bytes", post(JSON, &vec![b' '; 16_385]), &[413]),
    ]
}

/// Sends the bytes, reads the expected number of responses, closes this side, and reads the rest.
fn exchange(address: SocketAddr, bytes: &[u8], awaited: usize) -> Result<Vec<u16>, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    // This timeout only ends tests that would fail anyway.
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
    // A server that rejects early may close before it has read everything.
    let _ = stream.write_all(bytes);
    let is_head = bytes.starts_with(b"HEAD ");
    let (mut answers, mut room) = (Vec::new(), [0; 4_096]);
    loop {
        let found = statuses(&answers, is_head).map_or(0, |found| found.len());
        if found >= awaited {
            break;
        }
        match stream.read(&mut room) {
            Ok(0) => break,
            Ok(count) => answers.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(format!("{found} responses, then silence: {error}")),
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(format!("the connection was not closed: {error}")),
    }
    statuses(&answers, is_head)
}

/// Parses the statuses of a sequence of complete responses.
fn statuses(mut answers: &[u8], first_is_head: bool) -> Result<Vec<u16>, String> {
    let mut found = Vec::new();
    while !answers.is_empty() {
        let text = String::from_utf8_lossy(answers);
        let broken = || format!("not a response: {:?}", text.chars().take(200).collect::<String>());
        let head_end = answers.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)? + 4;
        let head = String::from_utf8_lossy(&answers[..head_end]).to_lowercase();
        let status = head.strip_prefix("http/1.").and_then(|rest| rest.get(2..5)).ok_or_else(broken)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut length: usize = length.map_or(Ok(0), str::parse).map_err(|_| broken())?;
        if found.is_empty() && first_is_head {
            length = 0;
        }
        found.push(status.parse().map_err(|_| broken())?);
        answers = answers.get(head_end + length..).ok_or_else(broken)?;
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_rejected_and_smuggled_requests_are_never_answered() {
    let shop = Shop::open().await;
    let address = shop.public;
    let wrong = tokio::task::spawn_blocking(move || {
        let cases = cases();
        assert!(cases.len() >= 120, "{}", cases.len());
        let mut wrong = Vec::new();
        for Case { name, bytes, statuses, is_truncated } in &cases {
            let awaited = if *is_truncated { 0 } else { statuses.len() };
            let found = exchange(address, bytes, awaited);
            if found.as_deref() != Ok(*statuses) {
                wrong.push(format!("{name}: expected {statuses:?}, got {found:?}"));
            }
        }
        println!("{} of {} requests got the expected responses", cases.len() - wrong.len(), cases.len());
        wrong
    });
    let wrong = wrong.await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    shop.close().await;
}
