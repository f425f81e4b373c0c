//! TLS terminated by the server. The tests in `transport` run over both TLS and plain HTTP.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
    time::Duration,
};

use flashsale_core::domain::{Clock as _, SystemClock};
use flashsale_testkit::process::Process;
use hyper::Method;
use rcgen::{CertificateParams, KeyPair};
use reference_server::{
    cli::remote_server::RemoteServer,
    config::{CertificateFiles, HttpConfig, OperatorRole},
    http::{Traffic, tls::Tls},
};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{Client, socket},
    commands::run,
    shop::{Shop, catalogue, token},
    transport::{Fixture, quick},
};

const SOON: Duration = Duration::from_secs(60);

/// A certificate and key in files, the server side that uses them, and clients that trust them.
pub(crate) struct Pair {
    _directory: TempDir,
    pub(crate) files: CertificateFiles,
    pub(crate) tls: Tls,
    roots: RootCertStore,
}

/// A client after the handshake.
pub(crate) struct Connected {
    pub(crate) client: Client,
    certificate: CertificateDer<'static>,
    version: ProtocolVersion,
    protocol: Vec<u8>,
}

impl Pair {
    pub(crate) fn issue() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| Some(directory.path().join(name));
        let files = CertificateFiles { certificate_file: file("certificate.pem"), key_file: file("key.pem") };
        let mut roots = RootCertStore::empty();
        roots.add(write(&files)).unwrap();
        let tls = Tls::new("public", &files, SystemClock.now()).unwrap().unwrap();
        Self { _directory: directory, files, tls, roots }
    }

    /// Replaces the certificate and key in the files.
    fn renew(&mut self) -> CertificateDer<'static> {
        let certificate = write(&self.files);
        self.roots.add(certificate.clone()).unwrap();
        certificate
    }

    fn certificate_file(&self) -> &str {
        self.files.certificate_file.as_ref().unwrap().to_str().unwrap()
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Connected> {
        self.connect_with(address, |_| {})
    }

    /// Connects as a proxy does that first sends `header`.
    pub(crate) fn connect_behind(&self, address: SocketAddr, header: &[u8]) -> io::Result<Connected> {
        let mut socket = socket(address);
        socket.write_all(header)?;
        self.connect_over(socket, &[&TLS13], |_| {})
    }

    fn connect_with(
        &self,
        address: SocketAddr,
        change: impl FnOnce(&mut ClientConfig),
    ) -> io::Result<Connected> {
        self.connect_by(address, &[&TLS13, &TLS12], change)
    }

    fn connect_by(
        &self,
        address: SocketAddr,
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut ClientConfig),
    ) -> io::Result<Connected> {
        self.connect_over(socket(address), versions, change)
    }

    fn connect_over(
        &self,
        mut socket: TcpStream,
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut ClientConfig),
    ) -> io::Result<Connected> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        change(&mut config);
        let name = ServerName::try_from(socket.peer_addr()?.ip().to_string()).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
        let (version, protocol) =
            (session.protocol_version().unwrap(), session.alpn_protocol().unwrap().to_vec());
        let twin = socket.try_clone()?;
        let client = Client::over(twin, Box::new(Secured { session, socket }));
        Ok(Connected { client, certificate, version, protocol })
    }
}

/// TLS over a socket. Unlike the rustls stream, it can still read when the server stops reading.
struct Secured {
    session: ClientConnection,
    socket: TcpStream,
}

impl io::Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.session.read_tls(&mut self.socket)?;
            self.session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl io::Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.session.writer().write(bytes)?;
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// Writes a new certificate and key to the files.
fn write(files: &CertificateFiles) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(files.certificate_file.as_ref().unwrap(), certificate.pem()).unwrap();
    fs::write(files.key_file.as_ref().unwrap(), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// Returns the number of failed handshakes, by reason.
fn failed(traffic: &Traffic) -> Vec<(&'static str, u64)> {
    traffic.failed_handshakes().into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Reads to the end of a connection.
fn rest(mut socket: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    rest
}

#[test]
fn tls_1_2_and_1_3_work_with_http_1_1() {
    let fixture = Fixture::with_tls(&HttpConfig::default(), Pair::issue());
    let pair = fixture.pair.as_ref().unwrap();
    for version in [&TLS12, &TLS13] {
        let mut connected = pair.connect_by(fixture.address, &[version], |_| {}).unwrap();
        assert_eq!(
            (connected.version, connected.protocol.as_slice()),
            (version.version, b"http/1.1".as_slice())
        );
        assert_eq!(connected.client.get("/number/1").json(), "1");
        // Far more than the buffers of TLS and the socket hold.
        assert_eq!(connected.client.get("/large").body.len(), (32 << 20) + 2);
        assert_eq!(connected.client.get("/number/2").json(), "2");
    }
    assert_eq!(failed(&fixture.traffic), []);
    let refused = pair.connect_with(fixture.address, |config| config.alpn_protocols = vec![b"h2".to_vec()]);
    assert!(refused.is_err());
    let stranger = Pair::issue();
    assert!(stranger.connect(fixture.address).is_err(), "the client must reject an unknown certificate");
    fixture.wait_for_open(0);
    assert_eq!(failed(&fixture.traffic), [("refused", 2)]);
}

#[test]
fn clients_without_tls_get_an_error_and_are_disconnected() {
    let fixture = Fixture::with_tls(&HttpConfig::default(), Pair::issue());
    let mut client = Client::connect(fixture.address);
    let problem = client.get("/number/1").expect_problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("https"), "{problem}");
    client.expect_closed();

    let mut broken = socket(fixture.address);
    broken.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    // An alert, but no HTTP response.
    assert!(!rest(broken).windows(4).any(|window| window == b"HTTP"));
    // A port probe does not count as a failure.
    drop(socket(fixture.address));
    fixture.wait_for_open(0);
    assert_eq!(failed(&fixture.traffic), [("refused", 1), ("plain", 1)]);
    assert_eq!(fixture.client().get("/number/1").status, 200);
}

#[test]
fn a_stalled_handshake_times_out_and_blocks_nobody() {
    let config = quick(|config| config.handshake_timeout_ms = 40);
    let fixture = Fixture::with_tls(&config, Pair::issue());
    for beginning in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stalled = socket(fixture.address);
        stalled.write_all(beginning).unwrap();
        assert_eq!(rest(stalled), b"");
    }
    fixture.wait_for_open(0);
    assert_eq!(failed(&fixture.traffic), [("timeout", 3)]);

    // With a longer timeout a stalled handshake occupies a connection, and others are still served.
    let config = quick(|config| config.max_connections = 2);
    let mut fixture = Fixture::with_tls(&config, Pair::issue());
    let mut stalled = socket(fixture.address);
    stalled.write_all(b"\x16").unwrap();
    fixture.wait_for_open(1);
    let mut client = fixture.client();
    assert_eq!(client.get("/number/1").status, 200);
    assert_eq!(rest(socket(fixture.address)), b"", "only two connections are allowed");
    assert_eq!(client.get("/number/2").status, 200);

    // A shutdown does not wait for the handshake timeout.
    fixture.server.as_ref().unwrap().stop();
    client.expect_closed();
    assert_eq!(fixture.drain(Duration::from_secs(8)), 0);
    assert_eq!(rest(stalled), b"");
    assert_eq!(failed(&fixture.traffic), []);
}

#[test]
fn a_new_certificate_is_used_after_a_reload_and_a_broken_one_never() {
    let mut fixture = Fixture::with_tls(&HttpConfig::default(), Pair::issue());
    let address = fixture.address;
    let pair = fixture.pair.as_mut().unwrap();
    let tls = pair.tls.clone();
    let mut before = pair.connect(address).unwrap();
    assert_eq!(before.client.get("/number/1").status, 200);

    let renewed = pair.renew();
    assert_eq!(pair.connect(address).unwrap().certificate, before.certificate, "not reloaded yet");
    assert_eq!(tls.reload(SystemClock.now()), Ok(true));
    assert_eq!(pair.connect(address).unwrap().certificate, renewed);
    assert_ne!(before.certificate, renewed);
    assert_eq!(before.client.get("/number/2").status, 200, "open connections continue");
    assert_eq!(tls.reload(SystemClock.now()), Ok(false));

    let key_file = pair.files.key_file.clone().unwrap();
    let key = fs::read(&key_file).unwrap();
    fs::write(&key_file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let problems = tls.reload(SystemClock.now()).unwrap_err();
    assert!(problems[0].starts_with("tls.public.key_file: "), "{problems:?}");
    let certificate = fs::read(pair.certificate_file()).unwrap();
    fs::write(pair.certificate_file(), "half").unwrap();
    fs::remove_file(&key_file).unwrap();
    assert_eq!(tls.reload(SystemClock.now()).unwrap_err().len(), 2);
    assert_eq!(pair.connect(address).unwrap().certificate, renewed);

    fs::write(pair.certificate_file(), certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    assert_eq!(tls.reload(SystemClock.now()), Ok(false));
    assert_eq!(pair.connect(address).unwrap().client.get("/number/3").status, 200);
}

/// A buyer reads pages, signs in, orders and pays over TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_works_over_tls() {
    let pair = Pair::issue();
    let shop = Shop::with(|config| config.tls.public = pair.files.clone()).await;
    let address = shop.public;
    let bought = tokio::task::spawn_blocking(move || {
        let mut client = pair.connect(address).unwrap().client;
        let page = client.get("/zh/activities/1/");
        assert_eq!(page.status, 200);
        assert!(String::from_utf8(page.body).unwrap().contains("data-offer=\"12\""));
        let identity = json!({ "user_id": "1", "user_name": "Ann" });
        let session = post(&mut client, "/v1/sessions", "", &identity, 200);
        let bearer = format!("authorization: Bearer {}\r\n", session["token"].as_str().unwrap());
        let ticket = post(&mut client, "/v1/activities/1/offers/11/ticket", &bearer, &Value::Null, 200);
        let path = format!("/v1/orders/{}", ticket["ticket"].as_str().unwrap());
        let order = post(&mut client, &path, "", &json!({ "quantity": 2 }), 201);
        let path = format!("/v1/orders/{}/payment", order["order_id"].as_str().unwrap());
        post(&mut client, &path, &bearer, &Value::Null, 201)
    });
    let payment = bought.await.unwrap();
    assert!(payment["pay_url"].as_str().unwrap().starts_with('/'), "{payment}");
    assert_eq!(shop.stock(11).await["held"], 2);
    shop.close().await;
}

fn post(client: &mut Client, path: &str, headers: &str, body: &Value, status: u16) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    let answer = client.answer();
    assert_eq!(answer.status, status, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_use_tls_only_with_servers_they_trust() {
    let (pair, stranger) = (Pair::issue(), Pair::issue());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sale.json");
    fs::write(&file, catalogue().to_string()).unwrap();
    let file = file.to_str().unwrap();
    let shop = Shop::start(|config| {
        config.storage.in_memory = true;
        config.tls.operations = pair.files.clone();
    })
    .await;
    let (plain, server) = (shop.operations.to_string(), format!("https://{}", shop.operations));
    let (done, printed) = run(&["import", file, "--server", &server, "--ca", pair.certificate_file()]).await;
    assert!(done && printed.contains("SKUs: 5 created"), "{printed}");
    let (done, printed) = run(&["audit", "--server", &server, "--ca", stranger.certificate_file()]).await;
    assert!(!done && printed.contains("does not answer") && printed.contains("certificate"), "{printed}");
    let (done, printed) = run(&["audit", "--server", &server]).await;
    assert!(!done && printed.contains("--ca"), "{printed}");
    let (done, printed) = run(&["audit", "--server", &plain]).await;
    assert!(!done && printed.contains("use https"), "{printed}");

    let ca = pair.files.certificate_file.as_deref();
    let name = format!("https://localhost:{}", shop.operations.port());
    let remote = RemoteServer::new(&name, &token(OperatorRole::Auditor), ca).unwrap();
    let stock = remote.call(Method::GET, "/v1/activities/1/offers/11/stock", None).await.unwrap();
    assert_eq!(stock["available"], 100, "{stock}");
    shop.close().await;
}

#[test]
fn sighup_reloads_the_certificate() {
    let mut pair = Pair::issue();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
    command.args(["serve", "--demo", "--in-memory", "--shared-runtime"]).env("NO_COLOR", "1");
    command.env("FLASHSALE__HTTP__PUBLIC", "127.0.0.1:0").env("FLASHSALE__HTTP__OPERATIONS", "127.0.0.1:0");
    command.env("FLASHSALE__TLS__PUBLIC__CERTIFICATE_FILE", pair.certificate_file());
    command.env("FLASHSALE__TLS__PUBLIC__KEY_FILE", pair.files.key_file.as_ref().unwrap());
    let process = Process::start(command);
    let line = process.wait_for_line(SOON, |line| line.contains("operations=127"));
    let public = line.split_whitespace().find_map(|word| word.strip_prefix("public=")).unwrap();
    let address: SocketAddr = public.parse().unwrap();
    process.wait_for_line(SOON, |line| line.contains(&format!("shop        https://{address}/")));
    process.wait_for_line(SOON, |line| line.contains("operations  http://127.0.0.1:"));
    let first = pair.connect(address).unwrap().certificate;

    let second = pair.renew();
    process.hang_up();
    process.wait_for_line(SOON, |line| line.contains("the certificate was read again"));
    assert_eq!(pair.connect(address).unwrap().certificate, second);
    assert_ne!(first, second);

    fs::write(pair.certificate_file(), "half").unwrap();
    process.hang_up();
    let line = process.wait_for_line(SOON, |line| line.contains("cannot reload the certificate"));
    assert!(line.contains("tls.public.certificate_file: ") && line.contains("send SIGHUP again"), "{line}");
    let mut connected = pair.connect(address).unwrap();
    assert_eq!((connected.client.get("/v1/time").status, connected.certificate), (200, second));

    process.terminate();
    connected.client.expect_closed();
    assert!(process.wait_for_exit(SOON).success(), "{process}");
    let key = fs::read_to_string(pair.files.key_file.as_ref().unwrap()).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!process.output().contains(secret), "{process}");
}
