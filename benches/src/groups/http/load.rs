//! The load generator: a few connections send the same request repeatedly, or each of many requests
//! once. All answers to a target must have the same length.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::Failure;

/// A server address, a request and its expected answer.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) request: Vec<u8>,
    /// The prefix of every answer.
    pub(super) begins: &'static str,
}

/// Requests of equal length, each sent once.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    bytes: Bytes,
    length: usize,
}

impl Requests {
    /// Concatenates these requests in order.
    pub(super) fn new(requests: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Failure> {
        let mut requests = requests.into_iter();
        let mut bytes = requests.next().ok_or("no request")?;
        let length = bytes.len();
        for request in requests {
            if request.len() != length {
                return Err("the requests differ in length".into());
            }
            bytes.extend_from_slice(&request);
        }
        Ok(Self { bytes: bytes.into(), length })
    }

    /// The bytes of a range of requests; `None` if it exceeds their number.
    fn some(&self, numbers: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(numbers.start * self.length..numbers.end * self.length)
    }
}

/// Sends one request and returns the raw answer.
pub(super) async fn answer(target: &Target) -> Result<Vec<u8>, Failure> {
    let mut stream = connect(target).await?;
    stream.write_all(&target.request).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the connection ended before the answer".into());
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or("the answer has no content-length")?.parse()?;
        if answer.len() >= end + 4 + length {
            check(target, &answer)?;
            return Ok(answer);
        }
    }
}

/// Counts the answers within `span`, with `depth` pipelined requests per connection.
pub(super) async fn run(
    target: &Target,
    connections: usize,
    depth: usize,
    span: Duration,
) -> Result<u64, Failure> {
    let length = answer(target).await?.len();
    let streams = connect_all(target, connections).await?;
    let requests = target.request.repeat(depth);
    let end = Instant::now() + span;
    let mut running = JoinSet::new();
    for mut stream in streams {
        let (target, requests) = (target.clone(), requests.clone());
        running.spawn(async move {
            let mut answers = vec![0; length * depth];
            let mut count = 0;
            while Instant::now() < end {
                exchange(&mut stream, &target, &requests, &mut answers, length).await?;
                count += depth as u64;
            }
            Ok::<u64, Failure>(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = running.join_next().await {
        count += ended??;
    }
    Ok(count)
}

/// Measures how long it takes to send each request once and read its answer of `length` bytes, with
/// `depth` pipelined requests per connection. A remainder smaller than `depth` is not sent.
pub(super) async fn run_through(
    target: &Target,
    requests: &Requests,
    length: usize,
    connections: usize,
    depth: usize,
) -> Result<Duration, Failure> {
    let streams = connect_all(target, connections).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for mut stream in streams {
        let (target, requests, next) = (target.clone(), requests.clone(), Arc::clone(&next));
        running.spawn(async move {
            let mut answers = vec![0; length * depth];
            loop {
                let first = next.fetch_add(depth, Ordering::Relaxed);
                let Some(requests) = requests.some(first..first + depth) else { return Ok::<_, Failure>(()) };
                exchange(&mut stream, &target, requests, &mut answers, length).await?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(began.elapsed())
}

/// Sends pipelined requests and reads their answers.
async fn exchange(
    stream: &mut TcpStream,
    target: &Target,
    requests: &[u8],
    answers: &mut [u8],
    length: usize,
) -> Result<(), Failure> {
    stream.write_all(requests).await?;
    stream.read_exact(answers).await?;
    answers.chunks(length).try_for_each(|answer| check(target, answer))
}

async fn connect_all(target: &Target, connections: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(target).await?);
    }
    Ok(streams)
}

async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn check(target: &Target, answer: &[u8]) -> Result<(), Failure> {
    if answer.starts_with(target.begins.as_bytes()) {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    Err(format!("the answer does not start with {:?}: {answer:?}", target.begins).into())
}
