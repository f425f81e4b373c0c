//! Accepting connections and serving them until told to stop.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{Handler, Listener, dispatch::Dispatch};
use crate::config::HttpConfig;

/// On what the connections of a listener run.
#[derive(Clone, Debug)]
pub enum Runtimes {
    /// One thread with a runtime of its own for each socket of the listener.
    PerCore,
    /// All on this runtime.
    Shared(Handle),
}

/// A listener that is being served.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    done: mpsc::Receiver<()>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// Starts to accept on `listener` and to answer by `handler`.
    ///
    /// # Errors
    ///
    /// If a thread or its runtime cannot be started.
    pub fn start<H: Handler>(
        listener: Listener,
        handler: &Arc<H>,
        runtimes: &Runtimes,
        config: &HttpConfig,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        let open = Arc::new(AtomicUsize::new(0));
        let address = listener.address();
        for (index, socket) in listener.into_sockets().into_iter().enumerate() {
            let worker = Worker {
                dispatch: Arc::new(Dispatch::new(Arc::clone(handler), config)),
                http: builder(config),
                open: Arc::clone(&open),
                max_connections: config.max_connections,
                stopped: stopped.clone(),
                alive: alive.clone(),
            };
            match runtimes {
                Runtimes::PerCore => start_thread(index, socket, worker)?,
                Runtimes::Shared(runtime) => {
                    let _context = runtime.enter();
                    runtime.spawn(worker.run(TcpListener::from_std(socket)?));
                }
            }
        }
        Ok(Self { address, stop, done, open })
    }

    /// The address that is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells the workers to stop accepting and the connections to close after the answer they are at.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops and waits until the last connection is closed, at most `limit`; returns how many were cut off.
    pub async fn drain(mut self, limit: Duration) -> usize {
        self.stop();
        match tokio::time::timeout(limit, self.done.recv()).await {
            Ok(_) => 0,
            Err(_) => self.open.load(Ordering::Relaxed),
        }
    }
}

struct Worker<H> {
    dispatch: Arc<Dispatch<H>>,
    http: http1::Builder,
    open: Arc<AtomicUsize>,
    max_connections: usize,
    stopped: watch::Receiver<bool>,
    /// Dropped when the worker has ended; nothing is ever sent.
    alive: mpsc::Sender<()>,
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
    /// Accepts until told to stop, then stays until its connections are closed or the server is dropped.
    async fn run(self, listener: TcpListener) {
        let (connection_alive, mut connections_done) = mpsc::channel(1);
        self.accept(listener, &connection_alive).await;
        drop(connection_alive);
        tokio::select! {
            _ = connections_done.recv() => {}
            () = self.alive.closed() => {}
        }
    }

    async fn accept(&self, listener: TcpListener, alive: &mpsc::Sender<()>) {
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream, alive.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                () = told_to_stop(&mut stopped) => return,
            }
        }
    }

    fn take(&self, stream: TcpStream, alive: mpsc::Sender<()>) {
        let Some(place) = Place::take(&self.open, self.max_connections) else { return };
        let _ = stream.set_nodelay(true);
        let dispatch = Arc::clone(&self.dispatch);
        let connection = self.http.serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let dispatch = Arc::clone(&dispatch);
                async move { dispatch.answer(request).await }
            }),
        );
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = told_to_stop(&mut stopped) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop((place, alive));
        });
    }
}

/// One of the connections that a listener may have open.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = (open.fetch_add(1, Ordering::Relaxed), Self(Arc::clone(open)));
        (place.0 < max).then_some(place.1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn builder(config: &HttpConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.head_timeout())
        .pipeline_flush(true)
        .max_header_size(config.head_bytes);
    http
}
