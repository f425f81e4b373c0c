//! Durable orders: buyers at a batcher in front of the engine, each waiting for its answer before it asks again; beside
//! it a plain file that gets the same commits.

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
    ledger::{Ledger as _, LedgerRole, Outcome},
    service::{Batcher, BatcherOptions},
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};

use super::{directory, plain_file};
use crate::{
    Failure, machine,
    report::{count, figure, median, progress, ratio},
    sale,
};

/// How many orders one run takes at most, each by another user.
const ORDERS: u64 = 2_000_000;

/// How long one run takes at most.
const SPAN: Duration = Duration::from_secs(8);

/// How often a load is run; the medians are printed.
const RUNS: usize = 3;

/// How many buyers wait at the same time. A third of them is in each commit: one is being written, one decided, one
/// collected. So this decides how large commits are.
const WAITING: u64 = 1_024;

/// Other numbers of waiting buyers, and how the figures of these loads end.
const OTHERS: [(u64, &str); 2] = [(16_384, ".waiting_16384"), (256, ".waiting_256")];

/// The most requests that wait in the batcher: more than are sent, so that a slow disk shows as latency.
const ROOM: usize = 8_000_000;

/// What a run took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    orders: f64,
    wall: Duration,
    /// User and system time of the whole process, buyers included.
    cpu: Duration,
}

/// Prints the figures of the first load; answers its orders per second.
pub(super) fn run(runtime: &Runtime, place: &Path) -> Result<f64, Failure> {
    load(runtime, place, WAITING, "")
}

/// Prints the figures of the other loads.
pub(super) fn run_others(runtime: &Runtime, place: &Path) -> Result<(), Failure> {
    for (waiting, name) in OTHERS {
        load(runtime, place, waiting, name)?;
    }
    Ok(())
}

fn load(runtime: &Runtime, place: &Path, waiting: u64, name: &str) -> Result<f64, Failure> {
    let (mut ours, mut cpu, mut per_commit, mut bytes) = (vec![], vec![], vec![], vec![]);
    let (mut appended, mut overwritten, mut p50, mut p99) = (vec![], vec![], vec![], vec![]);
    for run in 1..=RUNS {
        progress(format!("run {run} of {RUNS}: durable orders of {waiting} buyers at a time"));
        let taken_in = directory(place)?;
        let taken = take_orders(runtime, taken_in.path(), waiting)?;
        let (commits, orders) = (commits(taken_in.path())?, taken.orders);
        drop(taken_in);
        let append = plain_file::append(directory(place)?.path(), &commits)?;
        let overwrite = plain_file::overwrite(directory(place)?.path(), &commits)?;
        ours.push(orders / taken.wall.as_secs_f64());
        cpu.push(taken.cpu.as_secs_f64() * 1e6 / orders);
        per_commit.push(orders / count(commits.len() as u64));
        bytes.push(count(commits.iter().map(Vec::len).sum::<usize>() as u64) / orders);
        appended.push(append.wall.as_secs_f64() / taken.wall.as_secs_f64());
        overwritten.push(overwrite.wall.as_secs_f64() / taken.wall.as_secs_f64());
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

/// Takes orders into a new journal.
fn take_orders(runtime: &Runtime, directory: &Path, waiting: u64) -> Result<Taken, Failure> {
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
        // Each buyer who found nothing left has counted once too many.
        let orders = count(next.load(Ordering::Relaxed).min(ORDERS));
        let taken = Taken { orders, wall: began.elapsed(), cpu: machine::cpu_time() - cpu };
        // The batcher's task holds the engine, and the engine its files.
        batcher.drain().await;
        Ok(taken)
    })
}

/// A batcher in front of a new engine with its journal in a directory, where `units` are on sale.
pub(super) async fn open(directory: &Path, units: u64) -> Result<Arc<Batcher>, Failure> {
    let options = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::new(SystemClock));
    let engine = EmbeddedLedger::open(options)?;
    engine.open(sale::terms(u32::try_from(units)?)).await?;
    let options = BatcherOptions { reserve_room: ROOM, ..BatcherOptions::default() };
    let batcher = Batcher::new(Arc::new(engine), sale::lane(), options, &Handle::current());
    Ok(Arc::new(batcher))
}

/// One order of the `n`-th buyer.
pub(super) async fn buy(batcher: &Batcher, n: u64) -> Result<(), Failure> {
    match batcher.reserve(sale::request(n)).await? {
        (_, Outcome::Reserved { .. }) => Ok(()),
        (_, outcome) => Err(format!("buyer {n} got no order: {outcome:?}").into()),
    }
}

/// The commits of a run as the engine wrote them, one row of its journal each, without the one that opened the sale.
fn commits(directory: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

    let database = Database::open(directory.join("ledger.redb"))?;
    let reading = database.begin_read()?;
    let mut commits = Vec::new();
    for row in reading.open_table(JOURNAL)?.iter()? {
        let (number, bytes) = row?;
        if number.value() != u64::try_from(commits.len() + 1)? {
            return Err("rows of the journal are missing: a snapshot fell into the run".into());
        }
        commits.push(bytes.value().to_vec());
    }
    commits.remove(0);
    Ok(commits)
}
