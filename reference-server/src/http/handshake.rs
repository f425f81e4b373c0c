//! The TLS handshake of a connection.

use std::time::Duration;

use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::server::TlsStream;

use super::connection::{Stage, stopped_for};
use crate::http::tls::Tls;

/// The first byte of every handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// How long a handshake in progress may continue after a stop.
const LATE_HANDSHAKE: Duration = Duration::from_secs(1);

/// Why no TLS connection was established.
#[derive(Debug)]
pub(super) enum NoTls {
    /// The client did not complete the handshake in time.
    TimedOut,
    /// The handshake failed.
    Failed,
    /// The client does not speak TLS; its first bytes are still unread.
    Plain(TcpStream),
    /// The client sent nothing and disconnected, as health probes do, or the server stops.
    Closed,
}

/// Performs a handshake within `limit`.
pub(super) async fn handshake(
    tls: &Tls,
    stream: TcpStream,
    limit: Duration,
    stages: &mut watch::Receiver<Stage>,
) -> Result<TlsStream<TcpStream>, NoTls> {
    tokio::select! {
        done = timeout(limit, begin(tls, stream)) => done.unwrap_or(Err(NoTls::TimedOut)),
        () = stopped_for(stages, LATE_HANDSHAKE) => Err(NoTls::Closed),
    }
}

async fn begin(tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, NoTls> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE => {}
        Ok(1) => return Err(NoTls::Plain(stream)),
        _ => return Err(NoTls::Closed),
    }
    tls.accept(stream).await.map_err(|error| {
        tracing::debug!(%error, listener = tls.listener(), "TLS handshake failed");
        NoTls::Failed
    })
}
