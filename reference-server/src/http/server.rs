//! Accepts connections and serves them until stopped.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use hyper::server::conn::http1;
use ipnet::IpNet;
use tokio::{
    io::split,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    Code, Handler, Listener, Problem,
    client_address::is_trusted,
    connection::{self, Stage, Timeouts},
    dispatch::Dispatch,
    handshake::{NoTls, handshake},
    proxy_protocol::{self, NoHeader},
    traffic::FailedHandshake,
};
use crate::{config::HttpConfig, http::tls::Tls};

/// Maximum connections that a worker answers with `busy` concurrently.
const MAX_REFUSING: usize = 256;

/// Where the connections of a listener run.
#[derive(Clone, Debug)]
pub enum Runtimes {
    /// One thread with its own runtime per socket of the listener.
    PerCore,
    /// All sockets on this runtime.
    Shared(Handle),
}

/// A running server for one listener.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    stage: watch::Sender<Stage>,
    done: mpsc::Receiver<()>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// Starts accepting on `listener` and answering with `handler`.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be started.
    pub fn start<H: Handler>(
        listener: Listener,
        handler: &Arc<H>,
        runtimes: &Runtimes,
        config: &HttpConfig,
    ) -> io::Result<Self> {
        let (stage, stages) = watch::channel(Stage::Serving);
        let (alive, done) = mpsc::channel(1);
        let open = Arc::clone(&handler.traffic().open);
        let stopping = Arc::new(AtomicBool::new(false));
        let address = listener.address();
        let (sockets, tls) = listener.into_parts();
        for (index, socket) in sockets.into_iter().enumerate() {
            let worker = Worker {
                dispatch: Arc::new(Dispatch::new(Arc::clone(handler), config, Arc::clone(&stopping))),
                http: builder(config),
                tls: tls.clone(),
                proxies: config.proxy_protocol.then(|| config.trusted_proxies.clone()),
                head_timeout: config.head_timeout(),
                handshake_timeout: config.handshake_timeout(),
                open: Arc::clone(&open),
                max_connections: config.max_connections,
                refusing: Arc::default(),
                timeouts: Timeouts::new(config),
                stages: stages.clone(),
                _alive: alive.clone(),
            };
            match runtimes {
                Runtimes::PerCore => start_thread(index, socket, worker)?,
                Runtimes::Shared(runtime) => {
                    let _context = runtime.enter();
                    runtime.spawn(worker.run(TcpListener::from_std(socket)?));
                }
            }
        }
        Ok(Self { address, stopping, stage, done, open })
    }

    /// Returns the listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of open connections.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Tells workers to stop accepting, and connections to close after their current answer.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stage.send_replace(Stage::Stopping);
    }

    /// Stops and waits up to `limit` for connections to close; returns how many were cut off.
    pub async fn drain(mut self, limit: Duration) -> usize {
        self.stop();
        match tokio::time::timeout(limit, self.done.recv()).await {
            Ok(_) => 0,
            Err(_) => {
                let left = self.open_connections();
                self.stage.send_replace(Stage::Cut);
                left
            }
        }
    }
}

struct Worker<H> {
    dispatch: Arc<Dispatch<H>>,
    http: http1::Builder,
    tls: Option<Tls>,
    /// The proxies that begin each connection with a PROXY header, if the listener expects one.
    proxies: Option<Vec<IpNet>>,
    head_timeout: Duration,
    handshake_timeout: Duration,
    open: Arc<AtomicUsize>,
    max_connections: usize,
    refusing: Arc<AtomicUsize>,
    timeouts: Timeouts,
    stages: watch::Receiver<Stage>,
    /// Dropped when the worker ends, which closes the channel; nothing is ever sent.
    _alive: mpsc::Sender<()>,
}

fn start_thread<H: Handler>(
    index: usize,
    socket: std::net::TcpListener,
    worker: Worker<H>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _context = runtime.enter();
        TcpListener::from_std(socket)?
    };
    thread::Builder::new()
        .name(format!("http-{index}"))
        .spawn(move || runtime.block_on(worker.run(listener)))?;
    Ok(())
}

impl<H: Handler> Worker<H> {
    /// Accepts until told to stop, then waits until its connections are closed.
    async fn run(self, listener: TcpListener) {
        let (connection_alive, mut connections_done) = mpsc::channel(1);
        self.accept(listener, &connection_alive).await;
        drop(connection_alive);
        let _ = connections_done.recv().await;
    }

    async fn accept(&self, listener: TcpListener, alive: &mpsc::Sender<()>) {
        let mut stages = self.stages.clone();
        let mut stopping = std::pin::pin!(connection::reached(&mut stages, Stage::Stopping));
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer.ip(), alive.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                () = &mut stopping => break,
            }
        }
        // Closing the socket would reset connections that the kernel has already accepted.
        while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
            self.take(stream, peer.ip(), alive.clone());
        }
    }

    fn take(&self, stream: TcpStream, peer: IpAddr, alive: mpsc::Sender<()>) {
        let Some(slot) = ConnectionSlot::take(&self.open, self.max_connections) else {
            return self.refuse(stream, alive);
        };
        let _ = stream.set_nodelay(true);
        let accepted = Accepted {
            peer,
            http: self.http.clone(),
            dispatch: Arc::clone(&self.dispatch),
            timeouts: self.timeouts,
            stages: self.stages.clone(),
            _slot: slot,
            _alive: alive,
        };
        let header_limit = self
            .proxies
            .as_ref()
            .filter(|proxies| is_trusted(peer.to_canonical(), proxies))
            .map(|_| self.head_timeout);
        let tls = self.tls.clone().map(|tls| (tls, self.handshake_timeout));
        match (header_limit, tls) {
            (None, None) => drop(tokio::spawn(accepted.serve(stream))),
            (None, Some((tls, limit))) => drop(tokio::spawn(accepted.serve_tls(stream, tls, limit))),
            (Some(limit), tls) => drop(tokio::spawn(accepted.serve_proxied(stream, limit, tls))),
        }
    }

    /// Answers `busy` without reading the request. Closes without an answer if too many are being
    /// refused, or with TLS, where an answer would need a handshake.
    fn refuse(&self, stream: TcpStream, alive: mpsc::Sender<()>) {
        if self.tls.is_some() {
            return;
        }
        let Some(slot) = ConnectionSlot::take(&self.refusing, MAX_REFUSING) else { return };
        let busy = Problem::new(Code::Busy, "Too many connections are open; try again.")
            .retry_after(Duration::from_secs(1));
        let answer = self.dispatch.raw(busy);
        let (reader, writer) = stream.into_split();
        tokio::spawn(async move {
            connection::close_gracefully(reader, writer, &answer).await;
            drop((slot, alive));
        });
    }
}

/// A connection that counts as open until this is dropped.
struct Accepted<H> {
    peer: IpAddr,
    http: http1::Builder,
    dispatch: Arc<Dispatch<H>>,
    timeouts: Timeouts,
    stages: watch::Receiver<Stage>,
    _slot: ConnectionSlot,
    _alive: mpsc::Sender<()>,
}

impl<H: Handler> Accepted<H> {
    async fn serve(self, stream: TcpStream) {
        let (reader, writer) = stream.into_split();
        let Self { peer, http, dispatch, timeouts, stages, _slot, _alive } = self;
        connection::serve(reader, writer, peer, &http, dispatch, timeouts, stages).await;
    }

    async fn serve_tls(mut self, stream: TcpStream, tls: Tls, limit: Duration) {
        match handshake(&tls, stream, limit, &mut self.stages).await {
            Ok(stream) => {
                let (reader, writer) = split(stream);
                let Self { peer, http, dispatch, timeouts, stages, _slot, _alive } = self;
                connection::serve(reader, writer, peer, &http, dispatch, timeouts, stages).await;
            }
            Err(reason) => answer_without_tls(reason, &self.dispatch).await,
        }
    }

    /// Reads the header of a trusted proxy, and serves its client. The protocol forbids to guess
    /// whether there is a header, so a connection without one is refused.
    async fn serve_proxied(mut self, mut stream: TcpStream, limit: Duration, tls: Option<(Tls, Duration)>) {
        let problem = match proxy_protocol::client(&mut stream, limit, &mut self.stages).await {
            Ok(client) => {
                self.peer = client.unwrap_or(self.peer);
                return match tls {
                    None => self.serve(stream).await,
                    Some((tls, limit)) => self.serve_tls(stream, tls, limit).await,
                };
            }
            Err(NoHeader::Closed) => return,
            Err(NoHeader::Invalid) => {
                Problem::invalid("This listener expects a header of the PROXY protocol from this address.")
            }
            Err(NoHeader::TimedOut) => Problem::new(
                Code::Timeout,
                format!("Send the whole header of the PROXY protocol within {} ms.", limit.as_millis()),
            ),
        };
        tracing::warn!(
            peer = %self.peer,
            listener = self.dispatch.listener(),
            "a connection from a trusted proxy has no valid PROXY header: switch the protocol on in the \
             proxy, or off in http.proxy_protocol or http.operations_proxy_protocol"
        );
        // With TLS an answer would need a handshake.
        if tls.is_none() {
            let (reader, writer) = stream.into_split();
            connection::close_gracefully(reader, writer, &self.dispatch.raw(problem)).await;
        }
    }
}

/// Counts a failed handshake, and tells a client that speaks plain HTTP to use https.
async fn answer_without_tls<H: Handler>(reason: NoTls, dispatch: &Dispatch<H>) {
    match reason {
        NoTls::TimedOut => dispatch.handshake_failed(FailedHandshake::Timeout),
        NoTls::Failed => dispatch.handshake_failed(FailedHandshake::Refused),
        NoTls::Plain(stream) => {
            dispatch.handshake_failed(FailedHandshake::Plain);
            let answer = dispatch.raw(Problem::invalid("This port speaks TLS: use https."));
            let (reader, writer) = stream.into_split();
            connection::close_gracefully(reader, writer, &answer).await;
        }
        NoTls::Closed => {}
    }
}

/// Counts as one open connection until it is dropped.
struct ConnectionSlot(Arc<AtomicUsize>);

impl ConnectionSlot {
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let (before, slot) = (open.fetch_add(1, Ordering::Relaxed), Self(Arc::clone(open)));
        (before < max).then_some(slot)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn builder(config: &HttpConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    // No hyper timer, which allocates per head, and no experimental `pipeline_flush`: `Watchdog`
    // and `Outgoing` do their work. No `max_headers` either, which would move hyper's headers from
    // the stack to the heap: dispatch refuses more than `http.head_fields`, hyper more than 100.
    http.header_read_timeout(None).max_header_size(config.head_bytes);
    http
}
