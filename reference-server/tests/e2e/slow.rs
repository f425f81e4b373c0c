//! Slowloris: thousands of clients send or read as slowly as they can to exhaust server resources.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flashsale_core::domain::Strategy;
use flashsale_testkit::{client::Client, say};
use hyper::{Method, StatusCode};
use reference_server::runtime::open_files;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{interval, timeout},
};

use crate::site::{SOON, Site, offer};

const SLOW_CLIENTS: u64 = 5_000;

/// The server timeout for each part of a request, and for a client that reads nothing.
const PATIENCE_MS: &str = "2000";

/// From the first slow client to the end of the last. Timeouts are checked every half second.
const REAPED_WITHIN: Duration = Duration::from_secs(40);

/// How often a slow client sends one more byte.
const DRIP: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_slow_clients_block_nobody() {
    assert!(open_files::raise() > SLOW_CLIENTS + 1_000, "the test needs 6,300 open files: raise `ulimit -n`");
    let directory = tempfile::tempdir().unwrap();
    let site = Site::new(directory.path().join("data"), vec![offer(1, Strategy::OrderTime, 1_000, None)]);
    let server = site.serve_with(&[
        ("FLASHSALE__HTTP__HEAD_TIMEOUT_MS", PATIENCE_MS),
        ("FLASHSALE__HTTP__BODY_TIMEOUT_MS", PATIENCE_MS),
        ("FLASHSALE__HTTP__WRITE_TIMEOUT_MS", PATIENCE_MS),
        ("FLASHSALE__HTTP__IDLE_TIMEOUT_MS", PATIENCE_MS),
    ]);
    let address = server.shop.public;

    let over = Arc::new(AtomicBool::new(false));
    let (served, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut others = JoinSet::new();
    for _ in 0..8 {
        let (over, served, asked) = (Arc::clone(&over), Arc::clone(&served), Arc::clone(&asked));
        others.spawn(async move {
            let mut client = Client::new(address);
            while !over.load(Ordering::Relaxed) {
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = client.request(Method::GET, "/v1/activities/7001/status", &[], None);
                if matches!(timeout(SOON, answer).await, Ok(Ok(answer)) if answer.status == StatusCode::OK) {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    let begun = Instant::now();
    let mut slow = JoinSet::new();
    for number in 0..SLOW_CLIENTS {
        slow.spawn(async move {
            match number % 5 {
                0 | 1 => drip(address, "GET /v1/time HTTP/1.1\r\nhost: shop\r\nx-slow: ").await,
                2 | 3 => {
                    let head = "POST /v1/sessions HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n\
                                content-length: 9999\r\n\r\n{";
                    drip(address, head).await;
                }
                _ => read_nothing(address).await,
            }
        });
    }
    while let Some(ended) = slow.join_next().await {
        ended.unwrap();
    }
    let reaped = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    others.join_all().await;
    let (served, asked) = (served.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    say(&format!(
        "{SLOW_CLIENTS} slow clients: all disconnected after {reaped:.1?}; {served} of {asked} others served"
    ));
    assert!(asked > 1_000, "too few other requests to judge by");
    assert!(served * 1_000 >= asked * 999, "{served} of {asked} were served");
    assert!(reaped < REAPED_WITHIN, "{reaped:?}");
    server.process.terminate();
    assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);
    site.audit();
}

/// Sends the beginning of a request, then a byte per [`DRIP`], until the server disconnects.
async fn drip(address: SocketAddr, beginning: &str) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    if stream.write_all(beginning.as_bytes()).await.is_err() {
        return;
    }
    let (mut ticks, mut answer) = (interval(DRIP), [0; 1_024]);
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
            _ = ticks.tick() => {
                if stream.write_all(b"a").await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Requests more than the buffers of both sides hold and reads nothing until it is disconnected.
async fn read_nothing(address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let Ok(mut stream) = socket.connect(address).await else { return };
    let requests = "GET /zh/activities/7001 HTTP/1.1\r\nhost: shop\r\n\r\n".repeat(20_000);
    // The server stops reading while its responses are not read, so this blocks until it closes.
    let _ = stream.write_all(requests.as_bytes()).await;
}
