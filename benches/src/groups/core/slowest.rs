//! The slowest moments: commits while a snapshot is written and consumers read the outbox, batches in
//! a lane that has to grow, and the end of a sale that reserved too much memory.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use flashsale_core::{
    domain::{Attribution, Clock as _, Selling, SystemClock},
    embedded::{EmbeddedLedger, EmbeddedOptions},
    ledger::{
        BatchId, Change, ChangeId, Consumer, LedgerCalls as _, LedgerRole, Outcome, Position,
        state_machine::{Batch, Prepared, RoomBudget, StateMachine},
    },
};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{durable, latency, plain_file, temp_directory};
use crate::{
    Failure, machine,
    report::{count, figure, progress},
    sale,
};

/// Orders per second, half of what is required: commits are slow because of the disk or other
/// threads, not because buyers wait for the deciding thread.
const RATE: f64 = super::REQUIRED / 2.0;

/// The bytes of each commit of the plain file that is written after each run, in as many commits.
const COMMIT_BYTES: usize = 16 << 10;

/// Small enough that snapshots of all sizes up to a million orders are written meanwhile.
const SNAPSHOT_AFTER: u64 = 16 << 20;

/// Runs per load; the slowest of all is printed.
const RUNS: usize = 3;

/// As the services of the library read: so many entries at once, so many times, then a pause.
const ENTRIES: usize = 1_000;
const READS: usize = 64;
const PAUSE: Duration = Duration::from_millis(500);

/// Units, orders and the size of batches for the figures without a disk.
const UNITS: u32 = 2_000_000;
const BATCH: usize = 500;

/// Prints the slowest commits and answers, without and with snapshots and consumers.
pub(super) fn run(runtime: &Runtime, root: &Path) -> Result<(), Failure> {
    let loads = [("", u64::MAX, 0), ("_consumers", u64::MAX, 2), ("_snapshot", SNAPSHOT_AFTER, 2)];
    for (name, snapshot_after, consumers) in loads {
        let (mut commit, mut answer, mut over, mut commits, mut plain) = (0, 0, 0, 0, 0);
        for run in 1..=RUNS {
            progress(format!("run {run} of {RUNS}: slowest commit{}", name.replace('_', ", ")));
            let slowest = runtime.block_on(load(root, snapshot_after, consumers))?;
            commit = commit.max(slowest.commit);
            answer = answer.max(slowest.answer);
            over += slowest.over;
            commits += slowest.commits;
            let rows = vec![vec![0; COMMIT_BYTES]; usize::try_from(slowest.commits)?];
            let reference = plain_file::append(temp_directory(root)?.path(), &rows)?;
            plain = plain.max(reference.syncs.max() / 1_000);
        }
        figure(&format!("embedded.slowest_commit{name}"), count(commit) / 1e3, "ms");
        figure(&format!("fdatasync.slowest{name}"), count(plain) / 1e3, "ms");
        figure(&format!("embedded.slowest_answer{name}"), count(answer) / 1e3, "ms");
        figure(&format!("embedded.commits_over_25_ms{name}"), count(over), "commits");
        figure(&format!("embedded.commits{name}"), count(commits), "commits");
    }
    batches("", RoomBudget::new(u64::MAX))?;
    batches(".without_room", RoomBudget::new(0))?;
    give_back()
}

/// In microseconds, and in numbers of commits.
struct Slowest {
    commit: u64,
    answer: u64,
    over: u64,
    commits: u64,
}

async fn load(root: &Path, snapshot_after_bytes: u64, consumers: usize) -> Result<Slowest, Failure> {
    let directory = temp_directory(root)?;
    let options = EmbeddedOptions {
        snapshot_after_bytes,
        ..EmbeddedOptions::new(directory.path(), LedgerRole::Single, Arc::new(SystemClock))
    };
    let engine = Arc::new(EmbeddedLedger::open(options)?);
    let names: Vec<_> = (0..consumers).map(|n| Consumer::new(&format!("consumer-{n}"))).collect();
    for name in &names {
        engine.register(name).await?;
    }
    let batcher = durable::batcher(&engine, latency::orders_at(RATE)?).await?;
    engine.commits().slowest_micros.store(0, Ordering::Relaxed);
    let mut readers = JoinSet::<Result<(), Failure>>::new();
    for name in names {
        let engine = Arc::clone(&engine);
        readers.spawn(async move { read(&engine, &name).await });
    }
    let answers = latency::send(&batcher, RATE).await?;
    readers.abort_all();
    while let Some(ended) = readers.join_next().await {
        match ended {
            Err(error) if error.is_cancelled() => {}
            ended => ended??,
        }
    }
    if (snapshot_after_bytes < u64::MAX) != has_snapshot(directory.path())? {
        return Err("a snapshot was written in the wrong run, or none in the right one".into());
    }
    let micros = engine.commits().micros.read();
    let above = micros.bounds.partition_point(|bound| *bound <= 25_000);
    Ok(Slowest {
        commit: engine.commits().slowest_micros.load(Ordering::Relaxed),
        answer: answers.iter().map(|late| late.load(Ordering::Relaxed)).max().unwrap_or_default().into(),
        over: micros.counts[above..].iter().sum(),
        commits: micros.count(),
    })
}

/// Reads the outbox as the audit trail and the notifications do.
async fn read(engine: &EmbeddedLedger, consumer: &Consumer) -> Result<(), Failure> {
    let mut last: Option<Position> = None;
    loop {
        for _ in 0..READS {
            let entries = engine.events(consumer, sale::lane(), last, ENTRIES).await?;
            last = entries.last().map(|entry| entry.position).or(last);
            if entries.len() < ENTRIES {
                break;
            }
        }
        if let Some(last) = last {
            engine.ack(consumer, sale::lane(), last).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a whole snapshot is in the directory.
fn has_snapshot(directory: &Path) -> Result<bool, Failure> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snapshot-") && !name.ends_with("partial") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prints the slowest batch of a sale that sells everything: CPU time of deciding it.
fn batches(name: &str, budget: RoomBudget) -> Result<(), Failure> {
    progress(format!("slowest batch{name}"));
    let mut lane = opened(budget)?;
    let mut slowest = Duration::ZERO;
    for first in (0..u64::from(UNITS)).step_by(BATCH) {
        slowest = slowest.max(reserve(&mut lane, first)?);
    }
    figure(&format!("embedded.slowest_batch{name}"), slowest.as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// Prints how long a caller waits at most when a sale ends with as many orders as can be moved.
fn give_back() -> Result<(), Failure> {
    const ORDERS: u64 = 114_000;

    progress("memory given back after a sale");
    let mut lane = opened(RoomBudget::new(u64::MAX))?;
    for first in (0..ORDERS).step_by(BATCH) {
        reserve(&mut lane, first)?;
    }
    let by = Attribution { actor: "figures".parse()?, reason: "the sale is over".parse()? };
    lane.amend(batch(), sale::lane().activity, ChangeId(1), &Change::Selling(Selling::Ended), &by)?;
    let (mut slowest, mut freeing) = (Duration::ZERO, Duration::ZERO);
    loop {
        let began = machine::thread_time();
        let unused = lane.give_back_room(SystemClock.now());
        slowest = slowest.max(machine::thread_time() - began);
        if unused.is_empty() {
            break;
        }
        let began = machine::thread_time();
        drop(unused);
        freeing += machine::thread_time() - began;
    }
    figure("embedded.slowest_give_back", slowest.as_secs_f64() * 1e3, "ms");
    figure("embedded.free_room", freeing.as_secs_f64() * 1e3, "ms");
    Ok(())
}

fn opened(budget: RoomBudget) -> Result<StateMachine, Failure> {
    let mut prepared = Prepared::new(LedgerRole::Single, &sale::terms(UNITS), &budget);
    prepared.prefault();
    let mut machine = StateMachine::new(LedgerRole::Single);
    machine.open_prepared(batch(), prepared)?;
    Ok(machine)
}

/// Decides a batch of orders. Returns its CPU time, which does not depend on what else runs.
fn reserve(lane: &mut StateMachine, first: u64) -> Result<Duration, Failure> {
    let requests = sale::requests(first..first + BATCH as u64);
    let began = machine::thread_time();
    let answer = lane.reserve(batch(), sale::lane(), None, &requests)?;
    let took = machine::thread_time() - began;
    if answer.outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Reserved { .. })) {
        return Err("an order was declined".into());
    }
    Ok(took)
}

fn batch() -> Batch {
    Batch { id: BatchId(1), now: SystemClock.now() }
}
