//! The beginning of a connection with TLS, before its first request.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use super::connection::{Stage, reached};
use crate::http::tls::Tls;

/// What the first byte of every handshake is (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// How long a handshake that is under way at the stop may still take.
const LATE_HANDSHAKE: Duration = Duration::from_secs(1);

/// Why there is no connection with TLS.
#[derive(Debug)]
pub(super) enum NoTls {
    /// The client did not complete the handshake in time.
    Late,
    /// Client and server do not come together.
    Failed,
    /// The client does not speak TLS; its first bytes are not read yet.
    Plain(TcpStream),
    /// The client said nothing and went away, as probes of balancers do, or the server stops.
    Left,
}

/// Carries out a handshake within `limit`.
pub(super) async fn handshake(
    tls: &Tls,
    stream: TcpStream,
    limit: Duration,
    stages: &mut watch::Receiver<Stage>,
) -> Result<TlsStream<TcpStream>, NoTls> {
    let late = async {
        reached(stages, Stage::Stopping).await;
        sleep(LATE_HANDSHAKE).await;
    };
    tokio::select! {
        done = timeout(limit, begin(tls, stream)) => done.unwrap_or(Err(NoTls::Late)),
        () = late => Err(NoTls::Left),
    }
}

async fn begin(tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, NoTls> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE => {}
        Ok(1) => return Err(NoTls::Plain(stream)),
        _ => return Err(NoTls::Left),
    }
    tls.accept(stream).await.map_err(|error| {
        tracing::debug!(%error, listener = tls.listener(), "a handshake failed");
        NoTls::Failed
    })
}
