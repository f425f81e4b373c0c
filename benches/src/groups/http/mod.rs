//! Figures of the server over HTTP: the most frequent requests, compared with bare hyper, which
//! answers the same requests with the same bytes. The server has one core, the client another.

mod accepted;
mod bare;
mod load;
mod shop;

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

pub use bare::serve as serve_bare;
use flashsale_testkit::process::Process;
use tokio::runtime::Runtime;

use self::{
    load::Target,
    shop::{Shop, Storage},
};
use super::{data_root, temp_directory};
use crate::{
    Failure, machine,
    report::{count, figure, info, median, progress, ratio},
};

/// The argument with which `figures` runs itself as bare hyper, followed by the answer file.
pub const BARE: &str = "bare-hyper";

/// The duration of a measurement (accepted orders: until all are placed), and the number of
/// repetitions; the medians are printed.
const SPAN: Duration = Duration::from_secs(2);
const RUNS: usize = 5;

const CONNECTIONS: usize = 32;

/// Pipelined requests per connection, and the name of that way in figures.
const DEPTHS: [(usize, &str); 2] = [(1, "keepalive"), (16, "pipelined")];

/// The core of both servers, and that of the client.
const SERVERS_CORE: usize = 0;
const CLIENTS_CORE: usize = 1;

/// Measures and prints the figures.
///
/// # Errors
/// If a server cannot be built or started, or gives an unexpected answer.
pub fn run() -> Result<(), Failure> {
    let directory = temp_directory(&data_root()?)?;
    let directory = directory.path();
    machine::describe(directory)?;
    shop::build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    repeated(&runtime, directory)?;
    accepted::run(&runtime, directory)
}

/// Measures requests that can be repeated.
fn repeated(runtime: &Runtime, directory: &Path) -> Result<(), Failure> {
    machine::stay_on(SERVERS_CORE)?;
    let shop = Shop::start(directory, &Storage::Memory)?;
    for (name, target) in runtime.block_on(shop.targets())? {
        let answer = runtime.block_on(load::answer(&target))?;
        compare(directory, name, &answer, |server, depth| {
            let address = server.address(target.address);
            let target = Target { address, ..target.clone() };
            let answers = runtime.block_on(load::run(&target, CONNECTIONS, depth, SPAN))?;
            Ok(count(answers) / SPAN.as_secs_f64())
        })?;
    }
    Ok(())
}

/// The server that is measured.
#[derive(Clone, Copy, Debug)]
enum Server {
    Ours,
    /// Bare hyper at this address.
    Bare(SocketAddr),
}

impl Server {
    fn address(self, ours: SocketAddr) -> SocketAddr {
        match self {
            Self::Ours => ours,
            Self::Bare(address) => address,
        }
    }
}

/// Compares our server with bare hyper giving the same answer, and prints the figures. `rate`
/// measures answers per second at a pipelining depth.
fn compare(
    directory: &Path,
    name: &str,
    answer: &[u8],
    mut rate: impl FnMut(Server, usize) -> Result<f64, Failure>,
) -> Result<(), Failure> {
    info(&format!("http.{name}.bytes"), answer.len());
    let file = directory.join(name);
    fs::write(&file, answer)?;
    machine::stay_on(SERVERS_CORE)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(BARE).arg(&file);
    let (_bare, address) = started(command, "bare=")?;
    machine::stay_on(CLIENTS_CORE)?;
    for (depth, way) in DEPTHS {
        progress(format!("{name}, {way}"));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(rate(Server::Ours, depth)?);
            theirs.push(rate(Server::Bare(address), depth)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        figure(&format!("http.{name}.{way}"), ours, "answers/s");
        figure(&format!("hyper.{name}.{way}"), theirs, "answers/s");
        ratio(&format!("http.{name}.{way}"), ours / theirs);
    }
    Ok(())
}

/// Starts a process and parses the address that it prints after `word`.
fn started(command: Command, word: &str) -> Result<(Process, SocketAddr), Failure> {
    const SOON: Duration = Duration::from_secs(60);
    let process = Process::start(command);
    let line = process.wait_for_line(SOON, |line| line.contains(word));
    Ok((process, address(&line, word)?))
}

fn address(line: &str, word: &str) -> Result<SocketAddr, Failure> {
    let found = line.split_whitespace().find_map(|part| part.strip_prefix(word));
    Ok(found.ok_or_else(|| format!("no {word} in {line:?}"))?.parse()?)
}
