//! The PROXY protocol: before its first byte of TLS or HTTP, a proxy says whose connection this is.
//!
//! Versions 1 (text) and 2 (binary) of <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::{io, net::IpAddr, time::Duration};

use ppp::{v1, v2};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::watch,
    time::timeout,
};

use super::connection::{Stage, stopped_for};

/// Maximum bytes of a header of version 1, with its line end (section 2.1).
const LINE_BYTES: usize = 107;
/// Maximum bytes after the fixed part of a header of version 2: addresses take up to 216, and proxies
/// add a few values such as a TLS client's name.
const PAYLOAD_BYTES: usize = 4096;
/// How long a header may take to arrive after a stop.
const LATE_HEADER: Duration = Duration::from_secs(1);

/// Why a connection has no PROXY header.
#[derive(Debug)]
pub(super) enum NoHeader {
    /// It did not arrive in time.
    TimedOut,
    /// Something else arrived.
    Invalid,
    /// The proxy disconnected, as health probes do, or the server stops.
    Closed,
}

/// Reads the header of a connection within `limit`, and not a byte more. Returns the client's
/// address; `None` if the proxy connects for itself, or does not know the address.
pub(super) async fn client(
    stream: &mut (impl AsyncRead + Unpin),
    limit: Duration,
    stages: &mut watch::Receiver<Stage>,
) -> Result<Option<IpAddr>, NoHeader> {
    tokio::select! {
        read = timeout(limit, read(stream)) => match read {
            Ok(Ok(header)) => client_of(&header),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(NoHeader::Invalid),
            Ok(Err(_)) => Err(NoHeader::Closed),
            Err(_) => Err(NoHeader::TimedOut),
        },
        () = stopped_for(stages, LATE_HEADER) => Err(NoHeader::Closed),
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    // No header of either version is shorter than the signature of version 2.
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        // Version and command, family and protocol, and the length of the rest.
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        header.extend(fixed);
        let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if length > PAYLOAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let begin = header.len();
        header.resize(begin + length, 0);
        stream.read_exact(&mut header[begin..]).await?;
        return Ok(header);
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // What follows the line belongs to TLS or HTTP, so read no further than its end.
    while !header.ends_with(b"\n") {
        if header.len() == LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        header.push(stream.read_u8().await?);
    }
    Ok(header)
}

fn client_of(header: &[u8]) -> Result<Option<IpAddr>, NoHeader> {
    if header.starts_with(v2::PROTOCOL_PREFIX) {
        let header = v2::Header::try_from(header).map_err(|_| NoHeader::Invalid)?;
        return Ok(match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
            (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
            _ => None,
        });
    }
    Ok(match v1::Header::try_from(header).map_err(|_| NoHeader::Invalid)?.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Reads a header followed by a request; returns the outcome and what is left to read.
    async fn outcome(mut bytes: &[u8]) -> (Result<Option<String>, NoHeader>, Vec<u8>) {
        let (_running, mut stages) = watch::channel(Stage::Serving);
        let read = client(&mut bytes, LIMIT, &mut stages).await;
        (read.map(|address| address.map(|address| address.to_string())), bytes.to_vec())
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, payload].concat()
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_leaves_the_request() {
        let four = [203, 0, 113, 9, 10, 0, 0, 1, 0x10, 0, 0, 80];
        let six: Vec<u8> = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[5], &[0; 16], &[0x10, 0, 0, 80]].concat();
        let with_values = [&four[..], &[4, 0, 3, 1, 2, 3]].concat();
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 4096 80\r\n".to_vec(), Some("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::5 ::1 65535 443\r\n".to_vec(), Some("2001:db8::5")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(1, 0x11, &four), Some("203.0.113.9")),
            (binary(1, 0x11, &with_values), Some("203.0.113.9")),
            (binary(1, 0x21, &six), Some("2001:db8::5")),
            (binary(1, 0x31, &[7; 216]), None),
            (binary(1, 0x00, &[]), None),
            (binary(0, 0x00, &[]), None),
            (binary(0, 0x11, &four), None),
        ] {
            let request = b"GET / HTTP/1.1\r\n";
            let (read, rest) = outcome(&[&header[..], request].concat()).await;
            assert_eq!(read.unwrap().as_deref(), client, "{}", header.escape_ascii());
            assert_eq!(rest, request);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_after_a_bounded_read() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 1000]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4096\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::5 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4096 80\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 10.0.0.1 4096 80\r\n".to_vec(),
            b"proxy TCP4 203.0.113.9 10.0.0.1 4096 80\r\n".to_vec(),
            binary(2, 0x11, &[0; 12]),
            binary(1, 0x11, &[0; 4]),
            binary(1, 0x41, &[0; 12]),
            [v2::PROTOCOL_PREFIX, &[0x31, 0x11, 0, 0]].concat(),
            [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat(),
            long.clone(),
        ] {
            let (read, rest) = outcome(&bytes).await;
            assert!(
                matches!(read, Err(NoHeader::Invalid)),
                "{}: {read:?}",
                bytes[..30.min(bytes.len())].escape_ascii()
            );
            assert!(bytes.len() - rest.len() <= 16 + PAYLOAD_BYTES);
        }
        assert_eq!(outcome(&long).await.1.len(), long.len() - LINE_BYTES);
        for cut in [&b""[..], b"PROXY", b"PROXY TCP4 203.0.113.9", v2::PROTOCOL_PREFIX] {
            assert!(matches!(outcome(cut).await.0, Err(NoHeader::Closed)), "{}", cut.escape_ascii());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_must_arrive_in_time_and_a_stop_does_not_wait_for_it() {
        let (mut stream, _silent) = tokio::io::duplex(64);
        let (running, mut stages) = watch::channel(Stage::Serving);
        let read = client(&mut stream, LIMIT, &mut stages).await;
        assert!(matches!(read, Err(NoHeader::TimedOut)), "{read:?}");
        running.send_replace(Stage::Stopping);
        let read = client(&mut stream, LIMIT, &mut stages).await;
        assert!(matches!(read, Err(NoHeader::Closed)), "{read:?}");
    }
}
