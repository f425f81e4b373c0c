//! A shop for a test: configuration, catalogue, data directory and server.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, SystemTime},
};

use flashsale_core::domain::{ActivityId, SkuId, Strategy};
use flashsale_testkit::{
    buyers::{Offer, Provider, Shop},
    process::Process,
    say,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A timeout that suffices for an unoptimised build on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

const OPERATOR_TOKEN: &str = "operator-token-of-the-end-to-end-tests";
const SANDBOX_SECRET: &str = "sandbox-secret-of-the-end-to-end-tests";
const ACTIVITY: u64 = 7001;

/// A data directory with a configuration and a catalogue. The directory may be on a separate disk.
pub(crate) struct Site {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// What is on sale.
    pub(crate) offers: Vec<Offer>,
    // Configuration and import file. They are not on the disk that a test destroys.
    files: TempDir,
}

/// A server that serves a [`Site`].
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Its addresses and secrets.
    pub(crate) shop: Shop,
}

/// A server whose start waits.
pub(crate) struct HeldStart {
    pub(crate) process: Process,
    pub(crate) public: SocketAddr,
    pub(crate) operations: SocketAddr,
    key: PathBuf,
    secret: Vec<u8>,
}

impl HeldStart {
    /// Lets the start go on.
    pub(crate) fn release(&self) {
        fs::write(&self.key, &self.secret).unwrap();
    }
}

/// Returns an offer of the only activity of a site.
pub(crate) fn offer(sku: u64, strategy: Strategy, units: u64, hold_seconds: Option<u32>) -> Offer {
    Offer {
        activity: ActivityId::new(ACTIVITY).unwrap(),
        sku: SkuId::new(sku).unwrap(),
        strategy,
        units,
        hold_seconds,
        per_user: 2,
    }
}

impl Site {
    /// Imports one live activity with these offers into a data directory.
    pub(crate) fn new(data: PathBuf, offers: Vec<Offer>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let site = Self { data, offers, files };
        site.write_configuration();
        let catalogue = site.files.path().join("catalogue.json");
        fs::write(&catalogue, site.catalogue().to_string()).unwrap();
        let mut import = site.command("import");
        import.arg(&catalogue);
        let (exit, output) = run(import);
        assert!(exit.success(), "the import failed: {output}");
        site
    }

    /// Moves the site to another data directory with the same content.
    pub(crate) fn moved_to(self, data: PathBuf) -> Self {
        Self { data, ..self }
    }

    /// Starts the server and waits until it sells.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// Starts the server with additional `FLASHSALE__…` settings.
    pub(crate) fn serve_with(&self, settings: &[(&str, &str)]) -> Server {
        let mut command = self.command("serve");
        command.envs(settings.iter().copied());
        Self::started(Process::start(command))
    }

    /// Like [`serve_with`](Self::serve_with), with a server that survives SIGXFSZ: a write beyond
    /// [`Process::limit_files`] fails, as on a full disk.
    pub(crate) fn serve_limited(&self, settings: &[(&str, &str)]) -> Server {
        let serve = self.command("serve");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(serve.get_program())
            .args(serve.get_args());
        command.env("NO_COLOR", "1").envs(settings.iter().copied());
        Self::started(Process::start(command))
    }

    /// Starts a server that waits during its start, when its stores are open, until
    /// [`HeldStart::release`].
    pub(crate) fn serve_held(&self) -> HeldStart {
        let key = self.files.path().join("session.key");
        let secret = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        // Reading it waits for somebody who writes.
        assert!(Command::new("mkfifo").arg(&key).status().unwrap().success());
        let process = Process::start(self.command("serve"));
        // The check of the configuration reads it, too.
        fs::write(&key, &secret).unwrap();
        let line = process.wait_for_line(SOON, |line| address(line, "operations_address=").is_some());
        let [public, operations] = ["public_address=", "operations_address="]
            .map(|name| address(&line, name).unwrap_or_else(|| panic!("no {name}: {line}")));
        HeldStart { process, public, operations, key, secret }
    }

    fn started(process: Process) -> Server {
        let line = process.wait_for_line(SOON, |line| address(line, "operations=").is_some());
        let shop = Shop {
            public: address(&line, "public=").unwrap_or_else(|| panic!("no public address: {line}")),
            operations: address(&line, "operations=")
                .unwrap_or_else(|| panic!("no operations address: {line}")),
            operator_token: OPERATOR_TOKEN.to_owned(),
            provider: Provider { name: "sandbox".to_owned(), secret: SANDBOX_SECRET.to_owned() },
        };
        Server { process, shop }
    }

    /// Returns the command line of a subcommand on this site.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
        command.arg(name).arg("--data").arg(&self.data).arg("--config").arg(self.configuration());
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs `audit` on the data directory of a stopped server and checks that it passes.
    pub(crate) fn audit(&self) {
        let (exit, output) = run(self.command("audit"));
        assert!(exit.success(), "the audit failed: {output}");
    }

    fn configuration(&self) -> PathBuf {
        self.files.path().join("flashsale.toml")
    }

    /// The system picks the ports, so that tests can run in parallel and next to a real server. The
    /// secrets are fixed, so that signatures stay valid after a crash.
    fn write_configuration(&self) {
        let file = |name: &str, secret: &str| {
            let path = self.files.path().join(name);
            fs::write(&path, secret).unwrap();
            path.display().to_string()
        };
        let session = file("session.key", "session-key-of-the-end-to-end-tests");
        let ticket = file("ticket.key", "ticket-key-of-the-end-to-end-tests-");
        let sandbox = file("sandbox.key", SANDBOX_SECRET);
        let configuration = format!(
            r#"
            [http]
            public = "127.0.0.1:0"
            operations = "127.0.0.1:0"

            # Small, so that crashes hit snapshots while they are written.
            [storage]
            snapshot_after_bytes = 65536

            [identity]
            demo = true

            # All buyers share one address here.
            [guard]
            address_orders = "off"
            busy_address = "off"

            [payment]
            sandbox = true
            window_seconds = 2
            cap_seconds = 2

            [secrets]
            session_key_files = ["{session}"]
            ticket_keys = [{{ id = 1, file = "{ticket}" }}]
            callback_files = {{ sandbox = "{sandbox}" }}

            [[operations.tokens]]
            name = "tests"
            roles = ["operator", "auditor"]
            token = "{OPERATOR_TOKEN}"
            "#
        );
        fs::write(self.configuration(), configuration).unwrap();
    }

    fn catalogue(&self) -> Value {
        let price = json!({ "amount": 9900, "currency": "CNY" });
        let skus: Vec<Value> = self
            .offers
            .iter()
            .map(|offer| {
                json!({ "id": offer.sku, "product_id": "1", "name": format!("变体 {}", offer.sku), "list_price": price })
            })
            .collect();
        let offers: Vec<Value> = self
            .offers
            .iter()
            .map(|offer| {
                json!({
                    "sku_id": offer.sku, "price": price, "units": offer.units, "strategy": offer.strategy,
                    "hold_seconds": offer.hold_seconds,
                    "limits": [{ "subject": "user", "per": "offer", "max": offer.per_user }],
                })
            })
            .collect();
        json!({
            "products": [{ "id": "1", "name": "Teapot 茶壶" }],
            "skus": skus,
            "activities": [{
                "id": ACTIVITY.to_string(), "name": "Singles' Day 双十一", "starts_at": "now-1m", "ends_at": "now+6h",
                "creator": "chen", "reviewer": "li", "status": "published", "offers": offers,
            }],
        })
    }
}

/// Runs a command to its end. Returns its exit status and output.
pub(crate) fn run(command: Command) -> (ExitStatus, String) {
    let process = Process::start(command);
    let exit = process.wait_for_exit(SOON);
    (exit, process.output())
}

/// Returns and prints the seed of a randomised test: `FLASHSALE_TEST_SEED` if set, else a new one.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = match env::var("FLASHSALE_TEST_SEED") {
        Ok(text) => text.parse().expect("FLASHSALE_TEST_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
    };
    say(&format!("{test}: FLASHSALE_TEST_SEED={seed}"));
    seed
}

/// Parses the address after `name` in a log line of the server.
fn address(line: &str, name: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))?.parse().ok()
}

/// Returns every file below a directory with its content, to detect overwritten files.
pub(crate) fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut contents = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents.extend(self::contents(&path));
        } else {
            let content = fs::read(&path).unwrap();
            contents.push((path, content));
        }
    }
    contents.sort();
    contents
}
