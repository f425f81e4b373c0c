//! Bare hyper: drains the body of any request and returns a fixed answer.

use std::{convert::Infallible, net::Ipv4Addr, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Failure;

/// Serves the answer recorded in a file, on one thread, until the process is killed.
///
/// # Errors
/// If the file is not an HTTP answer, or the address cannot be bound.
pub fn serve(file: &Path) -> Result<(), Failure> {
    let (status, headers, body) = parse(&std::fs::read(file)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("bare={}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (headers, body) = (headers.clone(), body.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let (headers, body) = (headers.clone(), body.clone());
                async move {
                    while request.body_mut().frame().await.is_some() {}
                    let mut response = Response::new(Full::new(body));
                    *response.status_mut() = status;
                    *response.headers_mut() = headers;
                    Ok::<_, Infallible>(response)
                }
            });
            let serving =
                http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // A client that disconnects ends its connection; nothing to do.
                let _ = serving.await;
            });
        }
    })
}

/// Parses a recorded answer. Leaves date and length to hyper.
fn parse(answer: &[u8]) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("the answer has no head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?.parse()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a header without a value")?;
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    headers.remove(DATE);
    headers.remove(CONTENT_LENGTH);
    Ok((status, headers, Bytes::copy_from_slice(&answer[end + 4..])))
}
