//! The transport, independent of routes: limits, response order, panics and graceful shutdown.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    time::Duration,
};

use hyper::{Method, StatusCode};
use reference_server::{
    config::HttpConfig,
    http::{Handler, Listener, Problem, Request, Response, Runtimes, Server, Traffic, empty, json, segments},
    runtime::background::{Background, Spawner},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{client::Client, tls::Pair};

/// A handler whose routes exercise the transport.
struct Probe {
    spawner: Spawner,
    /// Signals that `/wait` or `/owned` has started, or that owned work has finished.
    events: mpsc::Sender<&'static str>,
    release: Arc<Semaphore>,
    traffic: Arc<Traffic>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    text: String,
}

impl Handler for Probe {
    fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    async fn handle(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let mut room = [""; 8];
        match (&head.method, segments(head.uri.path(), &mut room).unwrap_or_default()) {
            (&Method::GET | &Method::HEAD, ["number", number]) => json(StatusCode::OK, number),
            (&Method::GET, ["peer"]) => json(StatusCode::OK, &body.peer().to_string()),
            (_, ["number", _]) => Problem::method_not_allowed("GET, HEAD").into_response(),
            (&Method::POST, ["echo"]) => match body.json::<Echo>(&head.headers).await {
                Ok(echo) => json(StatusCode::OK, &echo),
                Err(problem) => problem.into_response(),
            },
            (&Method::POST, ["ignore"]) => Problem::not_found().into_response(),
            (_, ["large"]) => json(StatusCode::OK, &"x".repeat(32 << 20)),
            (_, ["panic"]) => panic!("expected by a test"),
            (_, ["wait"]) => {
                self.events.send("waiting").unwrap();
                self.release.acquire().await.unwrap().forget();
                json(StatusCode::OK, "waited")
            }
            (_, ["owned"]) => {
                let (events, release) = (self.events.clone(), Arc::clone(&self.release));
                let work = self.spawner.run(async move {
                    events.send("working").unwrap();
                    release.acquire().await.unwrap().forget();
                    events.send("worked").unwrap();
                });
                work.await.unwrap();
                empty(StatusCode::NO_CONTENT)
            }
            _ => Problem::not_found().into_response(),
        }
    }
}

pub(crate) struct Fixture {
    pub(crate) server: Option<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) pair: Option<Pair>,
    events: mpsc::Receiver<&'static str>,
    release: Arc<Semaphore>,
    background: Background,
}

impl Fixture {
    fn start(config: &HttpConfig) -> Self {
        Self::start_on(config, false, None)
    }

    /// Starts fixtures with per-core runtimes, with a shared runtime, and with TLS.
    fn each(config: &HttpConfig) -> impl Iterator<Item = Self> {
        let ways = [(false, None), (true, None), (false, Some(Pair::issue()))];
        ways.into_iter().map(|(shared, pair)| Self::start_on(config, shared, pair))
    }

    /// Starts a fixture that uses the certificate of `pair`.
    pub(crate) fn with_tls(config: &HttpConfig, pair: Pair) -> Self {
        Self::start_on(config, false, Some(pair))
    }

    fn start_on(config: &HttpConfig, shared: bool, pair: Option<Pair>) -> Self {
        let background = Background::start().unwrap();
        let (sender, events) = mpsc::channel();
        let release = Arc::new(Semaphore::new(0));
        let traffic = Traffic::new("probe", &["GET /number/{number}"], 0);
        let probe = Probe {
            spawner: background.spawner().clone(),
            events: sender,
            release: Arc::clone(&release),
            traffic: Arc::clone(&traffic),
        };
        let workers = NonZeroUsize::new(if shared { 1 } else { 2 }).unwrap();
        let listener =
            Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), workers, config.backlog).unwrap();
        let runtimes =
            if shared { Runtimes::Shared(background.spawner().runtime().clone()) } else { Runtimes::PerCore };
        let listener = listener.with_tls(pair.as_ref().map(|pair| pair.tls.clone()));
        let server = Server::start(listener, &Arc::new(probe), &runtimes, config).unwrap();
        Self { address: server.address(), server: Some(server), traffic, pair, events, release, background }
    }

    pub(crate) fn client(&self) -> Client {
        match &self.pair {
            None => Client::connect(self.address),
            Some(pair) => pair.connect(self.address).unwrap().client,
        }
    }

    /// Waits until exactly `count` connections are open.
    pub(crate) fn wait_for_open(&self, count: usize) {
        while self.server.as_ref().unwrap().open_connections() != count {
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn expect_event(&self, event: &str) {
        assert_eq!(self.events.recv_timeout(Duration::from_secs(20)), Ok(event));
    }

    pub(crate) fn drain(&mut self, limit: Duration) -> usize {
        let server = self.server.take().unwrap();
        self.background.block_on(server.drain(limit))
    }
}

pub(crate) fn quick(change: impl FnOnce(&mut HttpConfig)) -> HttpConfig {
    let mut config = HttpConfig::default();
    change(&mut config);
    config
}

fn head_with(fields: usize, filler: usize) -> String {
    let mut head = String::from("GET /number/1 HTTP/1.1\r\nhost: test\r\n");
    for field in 1..fields {
        head.push_str(&format!("x-{field}: 1\r\n"));
    }
    if filler > 0 {
        head.push_str(&format!("x-filler: {}\r\n", "f".repeat(filler)));
    }
    head + "\r\n"
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn heads_within_the_limits_are_served_and_larger_ones_rejected() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        let mut client = fixture.client();
        client.send(head_with(64, 0));
        assert_eq!(client.answer().status, 200);
        client.send(head_with(1, 15 * 1024));
        assert_eq!(client.answer().status, 200);

        for (fields, filler) in [(65, 0), (100, 0), (101, 0), (2000, 0), (1, 16 * 1024), (1, 100 * 1024)] {
            let mut client = fixture.client();
            client.try_send(head_with(fields, filler));
            let answer = client.answer();
            answer.expect_problem(431, "head_too_large");
            assert_eq!(answer.headers["connection"], "close");
            client.expect_closed();
        }
    }
}

#[test]
fn an_invalid_head_gets_a_problem_after_the_earlier_responses() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        let mut client = fixture.client();
        client.send("GET /number/1 HTTP/1.1\r\nhost: test\r\n\r\nGET /number/2 HTTP/1.1\r\nno colon\r\n\r\n");
        assert_eq!(client.answer().json(), "1");
        client.answer().expect_problem(400, "invalid_request");
        client.expect_closed();
    }
}

#[test]
fn a_response_does_not_wait_for_the_rest_of_the_next_head() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        let mut client = fixture.client();
        client.send("GET /number/1 HTTP/1.1\r\nhost: test\r\n\r\nGET /number/2 HT");
        assert_eq!(client.answer().json(), "1");
        client.send("TP/1.1\r\nhost: test\r\n\r\nGET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(client.answer().json(), "2");
        fixture.expect_event("waiting");
        fixture.release.add_permits(1);
        assert_eq!(client.answer().json(), "waited");
    }
}

#[test]
fn an_oversized_body_is_rejected_by_declared_and_by_actual_length() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        let fits = format!("{{\"text\":\"{}\"}}", "b".repeat(16 * 1024 - 11));
        let mut client = fixture.client();
        client.send(post("/echo", &fits));
        assert_eq!(client.answer().status, 200);

        let larger = "b".repeat(4 << 20);
        for body in ["b".repeat(16 * 1024 + 1), larger.clone()] {
            let mut client = fixture.client();
            client.try_send(post("/echo", &body));
            client.answer().expect_problem(413, "too_large");
        }
        let mut client = fixture.client();
        client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
        client.try_send(format!("{:x}\r\n{larger}\r\n0\r\n\r\n", larger.len()));
        client.answer().expect_problem(413, "too_large");
    }
}

#[test]
fn a_response_that_ignores_the_body_reaches_the_client() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        for length in [10, 10_000, 4 << 20] {
            let mut client = fixture.client();
            client.try_send(post("/ignore", &"b".repeat(length)));
            client.answer().expect_problem(404, "not_found");
        }
        // The rest of the body never arrives.
        let mut client = fixture.client();
        client.send("POST /ignore HTTP/1.1\r\nhost: test\r\ncontent-length: 500\r\n\r\nhalf");
        client.answer().expect_problem(404, "not_found");
    }
}

#[test]
fn json_bodies_are_parsed_strictly() {
    let fixture = Fixture::start(&HttpConfig::default());
    let mut client = fixture.client();
    client.send(post("/echo", r#"{"text":"抢"}"#));
    assert_eq!(client.answer().json()["text"], "抢");
    for (body, field) in
        [(r#"{"text":"a","more":1}"#, "more"), (r#"{"text":"a","text":"b"}"#, "text"), ("{}", "text")]
    {
        client.send(post("/echo", body));
        assert_eq!(client.answer().expect_problem(400, "invalid_request")["field"], field);
    }
    client
        .send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}");
    client.answer().expect_problem(415, "unsupported_media_type");
}

#[test]
fn media_types_are_read_as_senders_write_them() {
    let fixture = Fixture::start(&HttpConfig::default());
    let body = r#"{"text":"a"}"#;
    for (field, status) in [
        ("content-type: application/json;charset=utf8", 200),
        ("content-type: Application/Json; charset=\"UTF_8\"; profile=\"a;b\"", 200),
        ("content-type: application/json; version=2", 200),
        ("content-type: application/json; charset=latin1", 415),
        ("content-type: application/json\r\ncontent-encoding: identity", 200),
        ("content-type: application/json\r\ncontent-encoding: gzip", 415),
        ("content-type: application/json\r\ncontent-encoding: x-unknown", 415),
    ] {
        let mut client = fixture.client();
        let length = body.len();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nhost: test\r\n{field}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, status, "{field}: {answer:?}");
        if status == 415 {
            answer.expect_problem(415, "unsupported_media_type");
        }
        let asks_for_plain =
            answer.headers.get("accept-encoding").is_some_and(|codings| codings == "identity");
        assert_eq!(asks_for_plain, status == 415 && field.contains("encoding"), "{field}: {answer:?}");
    }
}

#[test]
fn a_trusted_proxy_names_its_client_in_a_proxy_header() {
    let config = quick(|config| {
        config.proxy_protocol = true;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.head_timeout_ms = 200;
    });
    let v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n".to_vec();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let v2 = [&signature[..], &[0x21, 0x11, 0, 12, 203, 0, 113, 9, 127, 0, 0, 1, 1, 1, 0, 80]].concat();
    let local = [&signature[..], &[0x20, 0, 0, 0]].concat();
    let own = "127.0.0.1";
    for fixture in Fixture::each(&config) {
        for (header, peer) in [(&v1, "203.0.113.9"), (&v2, "203.0.113.9"), (&local, own)] {
            let mut client = match &fixture.pair {
                Some(pair) => pair.connect_behind(fixture.address, header).unwrap().client,
                None => {
                    let mut client = fixture.client();
                    client.send(header);
                    client
                }
            };
            for _ in 0..2 {
                assert_eq!(client.get("/peer").json(), peer);
            }
        }
        if fixture.pair.is_some() {
            // Without a header there is no handshake, and so no answer.
            let mut client = Client::connect(fixture.address);
            client.send("GET /peer HTTP/1.1\r\nhost: test\r\n\r\n");
            client.expect_closed();
            continue;
        }
        let mut client = fixture.client();
        client.send("GET /peer HTTP/1.1\r\nhost: test\r\n\r\n");
        client.answer().expect_problem(400, "invalid_request");
        client.expect_closed();
        let mut client = fixture.client();
        client.send(&v1[..20]);
        client.answer().expect_problem(408, "timeout");
        client.expect_closed();
    }

    // A header from elsewhere is not believed; it is no HTTP either.
    let config = quick(|config| {
        config.proxy_protocol = true;
        config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let fixture = Fixture::start(&config);
    assert_eq!(fixture.client().get("/peer").json(), own);
    for header in [&v1, &v2] {
        let mut client = fixture.client();
        client.send(header);
        client.try_send("GET /peer HTTP/1.1\r\nhost: test\r\n\r\n");
        client.answer().expect_problem(400, "invalid_request");
    }
}

#[test]
fn slow_clients_get_an_error_and_are_disconnected() {
    let config = quick(|config| {
        config.head_timeout_ms = 40;
        config.body_timeout_ms = 40;
        config.idle_timeout_ms = 40;
        config.write_timeout_ms = 40;
    });
    for fixture in Fixture::each(&config) {
        let mut client = fixture.client();
        client.send("GET /number/1 HTTP/1.1\r\nhost:");
        client.answer().expect_problem(408, "timeout");
        client.expect_closed();

        let mut client = fixture.client();
        client.send(
            "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        );
        client.answer().expect_problem(408, "timeout");

        let mut client = fixture.client();
        assert_eq!(client.get("/number/1").status, 200);
        client.expect_closed();

        // The client never reads the large response, so the server closes the connection.
        let mut client = fixture.client();
        client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
        fixture.wait_for_open(0);
    }
}

#[test]
fn a_handler_that_exceeds_the_request_timeout_gets_an_error_response() {
    let fixture = Fixture::start(&quick(|config| config.request_timeout_ms = 30));
    let mut client = fixture.client();
    let answer = client.get("/wait");
    answer.expect_problem(503, "unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(client.get("/number/1").status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order_each_with_its_own_id() {
    for fixture in Fixture::each(&HttpConfig::default()) {
        let mut client = fixture.client();
        let requests: String = (0..16)
            .map(|number| {
                format!("GET /number/{number} HTTP/1.1\r\nhost: test\r\nx-request-id: mine\r\n\r\n")
            })
            .collect();
        client.send(requests);
        let mut ids = std::collections::HashSet::new();
        for number in 0..16 {
            let answer = client.answer();
            assert_eq!(answer.json(), number.to_string());
            assert!(ids.insert(answer.headers["x-request-id"].clone()));
        }
        assert!(!ids.contains("mine"));
    }
}

#[test]
fn head_requests_get_no_body_and_wrong_methods_are_rejected() {
    let fixture = Fixture::start(&HttpConfig::default());
    let mut client = fixture.client();
    client.send("HEAD /number/12 HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = client.answer_to("HEAD");
    assert_eq!((answer.status, answer.headers["content-length"].as_str()), (200, "4"));
    client.send("DELETE /number/12 HTTP/1.1\r\nhost: test\r\n\r\n");
    let answer = client.answer();
    answer.expect_problem(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET, HEAD");
    client.get("/nowhere").expect_problem(404, "not_found");
    client.get("/1/2/3/4/5/6/7/8/9").expect_problem(404, "not_found");
}

#[test]
fn connections_above_the_cap_are_answered_busy_and_the_others_continue() {
    let fixture = Fixture::start(&quick(|config| config.max_connections = 2));
    let mut first = fixture.client();
    let mut second = fixture.client();
    assert_eq!(first.get("/number/1").status, 200);
    assert_eq!(second.get("/number/2").status, 200);
    let mut third = fixture.client();
    let answer = third.answer();
    answer.expect_problem(503, "busy");
    assert_eq!(answer.headers["retry-after"], "1");
    third.expect_closed();
    assert_eq!(first.get("/number/3").status, 200);

    drop(second);
    fixture.wait_for_open(1);
    assert_eq!(fixture.client().get("/number/4").status, 200);
}

#[test]
fn a_panic_is_answered_and_the_connection_stays_open() {
    let fixture = Fixture::start(&HttpConfig::default());
    let mut client = fixture.client();
    for _ in 0..3 {
        let document = client.get("/panic").expect_problem(500, "internal");
        assert!(!document.to_string().contains("expected by a test"));
    }
    assert_eq!(client.get("/number/1").status, 200);
}

#[test]
fn owned_work_completes_after_its_client_disconnects() {
    let fixture = Fixture::start(&HttpConfig::default());
    let mut client = fixture.client();
    client.send("GET /owned HTTP/1.1\r\nhost: test\r\n\r\n");
    fixture.expect_event("working");
    drop(client);
    fixture.wait_for_open(0);
    fixture.release.add_permits(1);
    fixture.expect_event("worked");
}

#[test]
fn a_shutdown_finishes_requests_in_flight_and_closes_idle_connections() {
    for mut fixture in Fixture::each(&HttpConfig::default()) {
        let mut idle = fixture.client();
        assert_eq!(idle.get("/number/1").status, 200);
        let mut busy = fixture.client();
        busy.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
        fixture.expect_event("waiting");

        fixture.server.as_ref().unwrap().stop();
        idle.expect_closed();
        fixture.release.add_permits(1);
        let answer = busy.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers.get("connection").map(String::as_str), Some("close"), "{answer:?}");
        busy.expect_closed();
        drop(busy);
        assert_eq!(fixture.drain(Duration::from_secs(20)), 0);
        assert!(std::net::TcpStream::connect(fixture.address).is_err());
    }
}

#[test]
fn a_drain_has_a_time_limit() {
    for shared in [false, true] {
        let mut fixture = Fixture::start_on(&HttpConfig::default(), shared, None);
        let mut client = fixture.client();
        client.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
        fixture.expect_event("waiting");
        assert_eq!(fixture.drain(Duration::from_millis(10)), 1);
        client.expect_closed();
    }
}

#[test]
fn a_truncated_body_is_rejected() {
    let fixture = Fixture::start(&HttpConfig::default());
    let mut client = fixture.client();
    client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"text\"");
    client.finish_sending();
    client.answer().expect_problem(400, "invalid_request");
    client.expect_closed();
}

#[test]
fn a_port_shared_by_several_sockets_still_counts_as_taken() {
    let two = NonZeroUsize::new(2).unwrap();
    let first = Listener::bind(([127, 0, 0, 1], 0).into(), two, 16).unwrap();
    // Binding a shared port succeeds, so the probe must detect it first.
    drop(Listener::bind(first.address(), two, 16).unwrap());
    assert_eq!(Listener::probe(first.address()).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    Listener::probe(([127, 0, 0, 1], 0).into()).unwrap();
}
