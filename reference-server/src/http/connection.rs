//! Serves one connection and enforces its time limits.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Code, Handler, Problem,
    dispatch::Dispatch,
    stream::{Phase, Progress, Watched, lock},
};
use crate::config::HttpConfig;

/// How long a connection that was accepted just before a stop may take to send its first request.
const LATE_REQUEST: Duration = Duration::from_millis(50);
/// Time and bytes to keep reading a closing connection, so that the client gets the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    idle: Duration,
    head: Duration,
    write: Duration,
}

impl Timeouts {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self { idle: config.idle_timeout(), head: config.head_timeout(), write: config.write_timeout() }
    }

    fn limit(self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Idle => Some(self.idle),
            Phase::Head => Some(self.head),
            Phase::Writing => Some(self.write),
            Phase::Working => None,
        }
    }

    /// The polling interval: a quarter of the shortest limit, so that it overruns by half at most.
    fn period(self) -> Duration {
        (self.idle.min(self.head).min(self.write) / 4).max(Duration::from_millis(1))
    }
}

/// Serves a connection until it is closed, times out, or has sent its last answer after a stop.
///
/// Generic over a stream's halves: those of a socket need no lock; those of TLS share state.
pub(super) async fn serve<R, W, H>(
    reader: R,
    writer: W,
    peer: IpAddr,
    http: &http1::Builder,
    dispatch: Arc<Dispatch<H>>,
    timeouts: Timeouts,
    mut stages: watch::Receiver<Stage>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    H: Handler,
{
    let progress = Arc::new(Progress::default());
    let service = {
        let (dispatch, progress) = (Arc::clone(&dispatch), Arc::clone(&progress));
        service_fn(move |request| {
            let (dispatch, progress) = (Arc::clone(&dispatch), Arc::clone(&progress));
            async move {
                progress.enter(Phase::Working);
                let answer = dispatch.answer(request, peer).await;
                progress.enter(Phase::Idle);
                answer
            }
        })
    };
    let (watched, outgoing) = Watched::new(reader, writer, Arc::clone(&progress));
    let mut connection = http.serve_connection(TokioIo::new(watched), service);
    let mut watchdog = Watchdog::new(timeouts);
    let (mut cut, mut stopping) = (stages.clone(), false);
    let expired = loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stages, &progress), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            _ = poll_fn(|context| {
                let served = std::pin::Pin::new(&mut connection).poll(context);
                if served.is_pending() {
                    // hyper sees an error on its next read or write.
                    let _ = lock(&outgoing).poll_send(context);
                }
                served
            }) => break None,
            () = reached(&mut cut, Stage::Cut), if stopping => return,
            phase = watchdog.expired(&progress) => break Some(phase),
        }
    };
    let watched = connection.into_parts().io.into_inner();
    let bare = lock(&outgoing).bare();
    let final_problem = match (expired, bare) {
        (Some(Phase::Head), _) => Some(Problem::new(
            Code::Timeout,
            format!("Send the whole head within {} ms.", timeouts.head.as_millis()),
        )),
        (Some(Phase::Idle), _) => {
            // With TLS this sends close_notify, if there is room: nothing was cut off.
            let _ = poll_fn(|context| lock(&outgoing).poll_shutdown(context)).now_or_never();
            return;
        }
        (Some(_), _) => return,
        (None, Some(status)) => Some(malformed(status)),
        (None, None) if stopping || watched.has_ended() => return,
        (None, None) => None,
    };
    if let Some(problem) = final_problem {
        lock(&outgoing).append(&dispatch.raw(problem));
    }
    let reader = watched.into_reader();
    if let Some(outgoing) = Arc::into_inner(outgoing) {
        let (writer, last_bytes) = outgoing.into_inner().unwrap_or_else(PoisonError::into_inner).into_parts();
        close_gracefully(reader, writer, &last_bytes).await;
    }
}

/// Sends the last bytes of a connection and closes it so that the client can read them.
///
/// Closing a socket with unread input resets the connection, and the client may lose the answer.
pub(super) async fn close_gracefully(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    last_bytes: &[u8],
) {
    let linger = async {
        writer.write_all(last_bytes).await?;
        writer.shutdown().await?;
        let mut discarded = 0;
        let mut buffer = [0; 4096];
        while discarded < LINGER_BYTES {
            match reader.read(&mut buffer).await? {
                0 => break,
                count => discarded += count,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, linger).await;
}

/// The stages of a server's shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Accepts and serves connections.
    Serving,
    /// Finishes the requests in flight.
    Stopping,
    /// Drops the remaining connections.
    Cut,
}

/// Waits until a server has reached `stage`. A dropped server has reached every stage.
pub(super) async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    let _ = stages.wait_for(|now| *now >= stage).await;
}

/// Waits until a server stops, and then for what is on its way to arrive.
pub(super) async fn stopped_for(stages: &mut watch::Receiver<Stage>, late: Duration) {
    reached(stages, Stage::Stopping).await;
    sleep(late).await;
}

async fn told_to_stop(stages: &mut watch::Receiver<Stage>, progress: &Progress) {
    reached(stages, Stage::Stopping).await;
    if progress.look() == (Phase::Idle, 0) {
        sleep(LATE_REQUEST).await;
    }
}

/// Detects a phase without progress. Polling at intervals is cheaper than a timer per request.
struct Watchdog {
    timeouts: Timeouts,
    ticks: tokio::time::Interval,
    seen: (Phase, u32),
    since: Instant,
}

impl Watchdog {
    fn new(timeouts: Timeouts) -> Self {
        let mut ticks = interval(timeouts.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { timeouts, ticks, seen: (Phase::Idle, 0), since: Instant::now() }
    }

    async fn expired(&mut self, progress: &Progress) -> Phase {
        loop {
            let now = self.ticks.tick().await;
            let seen = progress.look();
            if seen != self.seen {
                (self.seen, self.since) = (seen, now);
            } else if self.timeouts.limit(seen.0).is_some_and(|limit| now - self.since >= limit) {
                return seen.0;
            }
        }
    }
}

fn malformed(status: u16) -> Problem {
    match status {
        431 | 414 => Problem::new(Code::HeadTooLarge, "Send a shorter head, or fewer header fields."),
        _ => Problem::invalid("The request head is not valid HTTP/1.1."),
    }
}
