//! The figures of the server over HTTP: what buyers ask for most, beside bare hyper that answers the same requests with the
//! same bytes. The server (or bare hyper) has one core, the client the other.

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
use super::{directory, place};
use crate::{
    Failure, machine,
    report::{count, figure, info, median, progress, ratio},
};

/// The argument with which `figures` calls itself to be bare hyper; the file with the answer follows.
pub const BARE: &str = "bare-hyper";

/// How long a measurement takes (of accepted orders: until all are placed), and how often it is made; the medians are
/// printed.
const SPAN: Duration = Duration::from_secs(2);
const RUNS: usize = 5;

const CONNECTIONS: usize = 32;

/// Requests that a connection has under way, and how the figures of that are called.
const DEPTHS: [(usize, &str); 2] = [(1, "keepalive"), (16, "pipelined")];

/// Both servers get this core, the client the other.
const SERVERS_CORE: usize = 0;
const CLIENTS_CORE: usize = 1;

/// Makes the figures.
///
/// # Errors
/// A server could not be built or started, or answered something else.
pub fn run() -> Result<(), Failure> {
    let directory = directory(&place()?)?;
    let directory = directory.path();
    machine::describe(directory)?;
    shop::build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    repeated(&runtime, directory)?;
    accepted::run(&runtime, directory)
}

/// What can be asked again and again.
fn repeated(runtime: &Runtime, directory: &Path) -> Result<(), Failure> {
    machine::stay_on(SERVERS_CORE)?;
    let shop = Shop::start(directory, &Storage::Memory)?;
    for (name, target) in runtime.block_on(shop.targets())? {
        let answer = runtime.block_on(load::answer(&target))?;
        compare(directory, name, &answer, |whom, depth| {
            let address = whom.address(target.address);
            let target = Target { address, ..target.clone() };
            let answers = runtime.block_on(load::run(&target, CONNECTIONS, depth, SPAN))?;
            Ok(count(answers) / SPAN.as_secs_f64())
        })?;
    }
    Ok(())
}

/// Who is measured.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Ours,
    /// Bare hyper, at this address.
    Bare(SocketAddr),
}

impl Whom {
    fn address(self, ours: SocketAddr) -> SocketAddr {
        match self {
            Self::Ours => ours,
            Self::Bare(address) => address,
        }
    }
}

/// Prints the figures of an answer of ours, and of bare hyper that gives the same: `rate` measures the answers per second
/// with so many requests under way on each connection, ours first.
fn compare(
    directory: &Path,
    name: &str,
    answer: &[u8],
    mut rate: impl FnMut(Whom, usize) -> Result<f64, Failure>,
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
            ours.push(rate(Whom::Ours, depth)?);
            theirs.push(rate(Whom::Bare(address), depth)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        figure(&format!("http.{name}.{way}"), ours, "answers/s");
        figure(&format!("hyper.{name}.{way}"), theirs, "answers/s");
        ratio(&format!("http.{name}.{way}"), ours / theirs);
    }
    Ok(())
}

/// Starts a process and reads the address that it prints after `word`.
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
