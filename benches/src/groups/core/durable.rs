//! Durable orders: buyers at a batcher on top of the engine, each waiting for its answer before the
//! next request. A plain file with the same commits is the reference.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flashsale_core::{
    domain::SystemClock,
    embedded::{EmbeddedLedger, EmbeddedOptions},
    ledger::{LedgerCalls as _, LedgerRole, Outcome},
    service::{Batcher, BatcherOptions},
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};

use super::{plain_file, temp_directory};
use crate::{
    Failure, machine,
    report::{count, figure, median, progress, ratio},
    sale,
};

/// The most orders of one run, each by another user.
const ORDERS: u64 = 2_000_000;

/// The longest duration of one run.
const SPAN: Duration = Duration::from_secs(8);

/// Runs per load; the medians are printed.
const RUNS: usize = 3;

/// Concurrent buyers. This determines the size of commits, since each has a third of the buyers:
/// while one batch is written, another is decided and a third is collected.
const WAITING: u64 = 1_024;

/// Other numbers of buyers, and the suffixes of their figures.
const OTHERS: [(u64, &str); 2] = [(16_384, ".waiting_16384"), (256, ".waiting_256")];

/// The batcher's queue limit. It exceeds the load, so that a slow disk shows up as latency.
const ROOM: usize = 8_000_000;

/// The measurements of a run.
#[derive(Clone, Copy, Debug)]
struct Measured {
    orders: f64,
    wall: Duration,
    /// User and system time of the whole process, including the buyers.
    cpu: Duration,
}

/// Prints the figures of the main load, and returns its orders per second.
pub(super) fn run(runtime: &Runtime, root: &Path) -> Result<f64, Failure> {
    load(runtime, root, WAITING, "")
}

/// Prints the figures of the other loads.
pub(super) fn run_others(runtime: &Runtime, root: &Path) -> Result<(), Failure> {
    for (waiting, name) in OTHERS {
        load(runtime, root, waiting, name)?;
    }
    Ok(())
}

fn load(runtime: &Runtime, root: &Path, waiting: u64, name: &str) -> Result<f64, Failure> {
    let (mut ours, mut cpu, mut per_commit, mut bytes) = (vec![], vec![], vec![], vec![]);
    let (mut appended, mut overwritten, mut p50, mut p99) = (vec![], vec![], vec![], vec![]);
    for run in 1..=RUNS {
        progress(format!("run {run} of {RUNS}: durable orders from {waiting} concurrent buyers"));
        let journal = temp_directory(root)?;
        let measured = take_orders(runtime, journal.path(), waiting)?;
        let (commits, orders) = (commits(journal.path())?, measured.orders);
        drop(journal);
        let append = plain_file::append(temp_directory(root)?.path(), &commits)?;
        let overwrite = plain_file::overwrite(temp_directory(root)?.path(), &commits)?;
        ours.push(orders / measured.wall.as_secs_f64());
        cpu.push(measured.cpu.as_secs_f64() * 1e6 / orders);
        per_commit.push(orders / count(commits.len() as u64));
        bytes.push(count(commits.iter().map(Vec::len).sum::<usize>() as u64) / orders);
        appended.push(append.wall.as_secs_f64() / measured.wall.as_secs_f64());
        overwritten.push(overwrite.wall.as_secs_f64() / measured.wall.as_secs_f64());
        p50.push(count(append.syncs.value_at_quantile(0.5)) / 1e3);
        p99.push(count(append.syncs.value_at_quantile(0.99)) / 1e3);
    }
    let orders_per_s = median(ours);
    figure(&format!("embedded.durable_orders{name}"), orders_per_s, "orders/s");
    figure(&format!("embedded.cpu_per_order{name}"), median(cpu), "us");
    figure(&format!("embedded.orders_per_commit{name}"), median(per_commit), "orders");
    figure(&format!("embedded.journal_per_order{name}"), median(bytes), "bytes");
    figure(&format!("fdatasync.latency_p50{name}"), median(p50), "us");
    figure(&format!("fdatasync.latency_p99{name}"), median(p99), "us");
    ratio(&format!("embedded.vs_fdatasync{name}"), median(appended));
    ratio(&format!("embedded.vs_fdatasync_overwriting{name}"), median(overwritten));
    Ok(orders_per_s)
}

/// Places orders against a new journal.
fn take_orders(runtime: &Runtime, directory: &Path, waiting: u64) -> Result<Measured, Failure> {
    runtime.block_on(async {
        let batcher = open(directory, ORDERS).await?;
        let next = Arc::new(AtomicU64::new(0));
        let (began, cpu) = (Instant::now(), machine::cpu_time());
        let mut buyers = JoinSet::<Result<(), Failure>>::new();
        for _ in 0..waiting {
            let (batcher, next) = (Arc::clone(&batcher), Arc::clone(&next));
            buyers.spawn(async move {
                while began.elapsed() < SPAN {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= ORDERS {
                        break;
                    }
                    buy(&batcher, n).await?;
                }
                Ok(())
            });
        }
        while let Some(ended) = buyers.join_next().await {
            ended??;
        }
        // A buyer that reaches the limit increments `next` once more without an order.
        let orders = count(next.load(Ordering::Relaxed).min(ORDERS));
        let measured = Measured { orders, wall: began.elapsed(), cpu: machine::cpu_time() - cpu };
        // Drain, because the batcher's task keeps the engine and its files open.
        batcher.drain().await;
        Ok(measured)
    })
}

/// Creates a batcher on a new engine with `units` on sale and its journal in a directory.
pub(super) async fn open(directory: &Path, units: u64) -> Result<Arc<Batcher>, Failure> {
    let options = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::new(SystemClock));
    batcher(&Arc::new(EmbeddedLedger::open(options)?), units).await
}

/// Creates a batcher on an engine and puts `units` on sale.
pub(super) async fn batcher(engine: &Arc<EmbeddedLedger>, units: u64) -> Result<Arc<Batcher>, Failure> {
    engine.open(sale::terms(u32::try_from(units)?)).await?;
    let options = BatcherOptions { reserve_room: ROOM, ..BatcherOptions::default() };
    let batcher = Batcher::new(Arc::clone(engine) as _, sale::lane(), options, &Handle::current());
    Ok(Arc::new(batcher))
}

/// Places one order of the `n`-th buyer.
pub(super) async fn buy(batcher: &Batcher, n: u64) -> Result<(), Failure> {
    match batcher.reserve(sale::request(n)).await? {
        (_, Outcome::Reserved { .. }) => Ok(()),
        (_, outcome) => Err(format!("buyer {n} did not get an order: {outcome:?}").into()),
    }
}

/// Reads a run's commits from the engine's journal rows, without the one that opened the sale.
fn commits(directory: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

    let database = Database::open(directory.join("ledger.redb"))?;
    let reading = database.begin_read()?;
    let mut commits = Vec::new();
    for row in reading.open_table(JOURNAL)?.iter()? {
        let (number, bytes) = row?;
        if number.value() != u64::try_from(commits.len() + 1)? {
            return Err("the journal lacks rows: a snapshot was taken during the run".into());
        }
        commits.push(bytes.value().to_vec());
    }
    commits.remove(0);
    Ok(commits)
}
