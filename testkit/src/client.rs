//! A small HTTP/1.1 client with one keep-alive connection, for load and for tests.

use std::{fmt, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// One connection to a server. It is opened on demand, and again if the server has closed it.
pub struct Client {
    server: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
    timeout: Duration,
}

/// A server's response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The JSON body. A body that is not JSON becomes a string, an empty one `null`.
    pub body: Value,
}

impl Answer {
    /// The stable code of a problem response; empty for other responses.
    pub fn code(&self) -> &str {
        self.text("code")
    }

    /// A string member of the body; empty if there is none.
    pub fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }

    /// The text of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.body)
    }
}

/// Why there is no response.
#[derive(Debug)]
pub enum NoAnswer {
    /// The request was not sent, so the server did not see it.
    NotSent(String),
    /// The connection failed or timed out after the request was sent; its effect is unknown.
    Unknown(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(reason) => write!(f, "the request was not sent: {reason}"),
            Self::Unknown(reason) => write!(f, "the request was sent, but no response came: {reason}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

impl Client {
    /// Creates an unconnected client for the server at this address, with a timeout of 30 s.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, connection: None, timeout: Duration::from_secs(30) }
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    /// If no response came; says whether the server may have acted.
    ///
    /// # Panics
    /// If the path or the headers are invalid.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, NoAnswer> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.send(method, path, headers, body).await
    }

    /// Like [`request`](Self::request), with arbitrary bytes declared as JSON.
    ///
    /// # Errors
    /// If no response came; says whether the server may have acted.
    ///
    /// # Panics
    /// If the path or the headers are invalid.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder().method(method).uri(path).header("host", self.server.to_string());
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body.unwrap_or_default())).expect("valid path and headers");

        // The server may have closed the kept connection. Resend an unwritten request on a new one.
        for _ in 0..2 {
            let mut connection = self.connection().await?;
            let sent = timeout(self.timeout, connection.try_send_request(request)).await;
            match sent.map_err(|_| NoAnswer::Unknown(format!("no response within {:?}", self.timeout)))? {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = timeout(self.timeout, body.collect()).await;
                    let body = body
                        .map_err(|_| NoAnswer::Unknown(format!("incomplete body within {:?}", self.timeout)))?
                        .map_err(|error| NoAnswer::Unknown(error.to_string()))?
                        .to_bytes();
                    self.connection = Some(connection);
                    return Ok(Answer { status: head.status, headers: head.headers, body: json(&body) });
                }
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::Unknown(refused.into_error().to_string())),
                },
            }
        }
        Err(NoAnswer::NotSent("the server closed two connections before the request was written".to_owned()))
    }

    /// Sends a request on a new connection and hangs up, like a phone that loses its signal.
    ///
    /// # Errors
    /// If the connection or the write fails.
    pub async fn send_and_hang_up(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> io::Result<()> {
        let body = body.to_string();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.server);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        let mut stream = TcpStream::connect(self.server).await?;
        stream.write_all(request.as_bytes()).await
    }

    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let not_sent = |error: &dyn fmt::Display| NoAnswer::NotSent(error.to_string());
        let connect = timeout(self.timeout, TcpStream::connect(self.server)).await;
        let stream = connect.map_err(|error| not_sent(&error))?.map_err(|error| not_sent(&error))?;
        stream.set_nodelay(true).map_err(|error| not_sent(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
        // Its errors surface in the pending request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn json(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use hyper::{Response, server, service::service_fn};
    use serde_json::json;
    use tokio::{
        net::{TcpListener, TcpSocket},
        sync::Mutex,
    };

    use super::*;

    /// A server that echoes the path, and closes each connection after `requests_per_connection`.
    async fn echo(requests_per_connection: usize, connections: Arc<Mutex<usize>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *connections.lock().await += 1;
                let left = Arc::new(Mutex::new(requests_per_connection));
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let left = left.clone();
                    async move {
                        *left.lock().await -= 1;
                        let seen = json!({ "path": request.uri().path(), "code": "seen" }).to_string();
                        let mut response = Response::builder();
                        if *left.lock().await == 0 {
                            response = response.header("connection", "close");
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(seen))).unwrap())
                    }
                });
                tokio::spawn(
                    server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_replaced_when_closed() {
        let connections = Arc::new(Mutex::new(0));
        let mut client = Client::new(echo(3, connections.clone()).await);
        for n in 0..7 {
            let answer = client.request(Method::GET, &format!("/{n}"), &[], None).await.unwrap();
            assert_eq!((answer.text("path"), answer.code()), (format!("/{n}").as_str(), "seen"));
        }
        assert_eq!(*connections.lock().await, 3);
    }

    #[tokio::test]
    async fn tells_what_was_not_sent_from_what_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            stream.peek(&mut [0]).await.unwrap();
        });
        let answer = Client::new(address).request(Method::GET, "/", &[], None).await;
        assert!(matches!(answer, Err(NoAnswer::Unknown(_))), "{answer:?}");
        silent.await.unwrap();

        // Bound, so no one else can use the port, but not listening.
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let answer = Client::new(deaf.local_addr().unwrap()).request(Method::GET, "/", &[], None).await;
        assert!(matches!(answer, Err(NoAnswer::NotSent(_))), "{answer:?}");
    }
}
