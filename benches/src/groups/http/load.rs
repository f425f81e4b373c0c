//! The client: a few connections that send the same request again and again, and count answers of the same length.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::Failure;

/// What is asked of whom.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) request: Vec<u8>,
    /// How every answer begins.
    pub(super) begins: &'static str,
}

/// One answer, as it comes from the socket.
pub(super) async fn answer(target: &Target) -> Result<Vec<u8>, Failure> {
    let mut stream = connect(target).await?;
    stream.write_all(&target.request).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the connection ended before its answer".into());
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or("an answer without a length")?.parse()?;
        if answer.len() >= end + 4 + length {
            check(target, &answer)?;
            return Ok(answer);
        }
    }
}

/// How many answers come in a span, with `depth` requests under way on each connection.
pub(super) async fn run(
    target: &Target,
    connections: usize,
    depth: usize,
    span: Duration,
) -> Result<u64, Failure> {
    let length = answer(target).await?.len();
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(target).await?);
    }
    let requests = target.request.repeat(depth);
    let end = Instant::now() + span;
    let mut running = JoinSet::new();
    for mut stream in streams {
        let (target, requests) = (target.clone(), requests.clone());
        running.spawn(async move {
            let mut answers = vec![0; length * depth];
            let mut count = 0;
            while Instant::now() < end {
                stream.write_all(&requests).await?;
                stream.read_exact(&mut answers).await?;
                for answer in answers.chunks(length) {
                    check(&target, answer)?;
                }
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
    Err(format!("not {:?}: {answer:?}", target.begins).into())
}
