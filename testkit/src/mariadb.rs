//! A private MariaDB server in a temporary directory.

use std::{
    fmt,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::process::Process;

/// How long a start may take; the recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that names another server to use.
const URL: &str = "FLASHSALE_TEST_MYSQL_URL";

/// What a commit promises when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power cut: `innodb_flush_log_at_trx_commit=1`.
    Full,
    /// It survives nothing. For tests that crash no server.
    None,
}

/// A running server. Dropping it kills the server and deletes its data.
pub struct MariaDb {
    server: Option<Server>,
    url: String,
}

struct Server {
    process: Process,
    home: PathBuf,
    durability: Durability,
    port: u16,
    /// Removes the data with the server.
    temporary: Option<TempDir>,
}

impl MariaDb {
    /// Starts a server with an empty data directory, unless `FLASHSALE_TEST_MYSQL_URL` names one to use.
    ///
    /// # Panics
    /// If there is no server program, or it does not start.
    #[track_caller]
    pub fn start(durability: Durability) -> Self {
        if let Ok(url) = std::env::var(URL) {
            return Self { server: None, url: url.trim_end_matches('/').to_owned() };
        }
        Self::start_private(durability)
    }

    /// Starts a server with an empty data directory of its own, which a test may crash.
    ///
    /// # Panics
    /// If there is no server program, or it does not start.
    #[track_caller]
    pub fn start_private(durability: Durability) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory can be created");
        let home = temporary.path().to_owned();
        Self::start_in(home, durability, Some(temporary))
    }

    /// Starts a private server with its data in `home`, which may hold the data of an earlier one.
    ///
    /// # Panics
    /// If there is no server program, or it does not start.
    #[track_caller]
    pub fn start_at(home: &Path, durability: Durability) -> Self {
        Self::start_in(home.to_owned(), durability, None)
    }

    #[track_caller]
    fn start_in(home: PathBuf, durability: Durability, temporary: Option<TempDir>) -> Self {
        if !home.join("data").join("mysql").exists() {
            install(&home);
        }
        let port = free_port();
        let process = run(&home, durability, port, temporary.is_some());
        let url = format!("mysql://root@127.0.0.1:{port}");
        Self { server: Some(Server { process, home, durability, port, temporary }), url }
    }

    /// The URL of the server, without a database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server process; `None` for a server that this test did not start.
    pub fn process(&self) -> Option<&Process> {
        self.server.as_ref().map(|server| &server.process)
    }

    /// Kills the server like `kill -9` and starts it again on the same port and data.
    ///
    /// # Panics
    /// If the server does not start, or this test did not start it.
    #[track_caller]
    pub fn crash(&mut self) {
        let server = self.server.as_mut().expect("a test that crashes the server needs a private one");
        server.process.kill();
        server.process = run(&server.home, server.durability, server.port, server.temporary.is_some());
    }
}

impl fmt::Debug for MariaDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of somebody else's server may have a password.
        f.debug_struct("MariaDb").field("is_private", &self.server.is_some()).finish()
    }
}

/// Creates the data directory.
#[track_caller]
fn install(home: &Path) {
    let mut command = command("mariadb-install-db");
    command.arg("--no-defaults").arg(format!("--datadir={}", home.join("data").display())).args([
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--user=root",
    ]);
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "cannot run mariadb-install-db: {error}. Install the Debian package mariadb-server, or set {URL}"
        )
    });
    assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts the server and waits until it listens.
#[track_caller]
fn run(home: &Path, durability: Durability, port: u16, is_temporary: bool) -> Process {
    let flush = match durability {
        Durability::Full => "1",
        Durability::None => "0",
    };
    let mut command = command("mariadbd");
    command
        .env("TMPDIR", home)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", home.join("data").display()))
        .arg(format!("--socket={}", home.join("socket").display()))
        .arg(format!("--port={port}"))
        .arg(format!("--innodb-flush-log-at-trx-commit={flush}"))
        .args(["--bind-address=127.0.0.1", "--user=root", "--innodb-buffer-pool-size=256M"])
        .args(["--innodb-log-file-size=256M", "--max-connections=300", "--skip-name-resolve"]);
    let process = Process::start_owning(command, is_temporary.then_some(home));
    process.wait_for_line(PATIENCE, |line| line.contains("ready for connections"));
    process
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Builds a command that is also looked up in root's PATH.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_back_after_a_crash() {
        if std::env::var_os(URL).is_some() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let mut server = MariaDb::start_at(home.path(), Durability::None);
        assert!(server.process().unwrap().is_running());
        server.crash();
        assert!(server.process().unwrap().is_running());
        drop(server);
        assert!(home.path().join("data").is_dir(), "only a temporary directory is deleted");
    }
}
