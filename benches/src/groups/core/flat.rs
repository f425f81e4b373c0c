//! Whether the cost of an order grows with the number of orders.

use std::sync::Arc;

use flashsale_core::{
    domain::SystemClock,
    embedded::EmbeddedLedger,
    ledger::{LedgerCalls as _, LedgerRole},
};
use tokio::runtime::Runtime;

use crate::{
    Failure, machine,
    report::{count, figure, median, progress, ratio},
    sale,
};

/// Runs per figure; the medians are printed.
const RUNS: usize = 5;
const UNITS: u32 = 2_000_000;
const BATCH: usize = 500;

/// Orders per measured window.
const WINDOW: u64 = 10_000;

/// The number of orders before each window, and the figure's name.
const AFTER: [(u64, &str); 3] = [
    (10_000, "embedded.cost_at_1e4"),
    (100_000, "embedded.cost_at_1e5"),
    (1_000_000, "embedded.cost_at_1e6"),
];

/// Measures CPU time per order (user and system) without a disk, in batches.
pub(super) fn run(runtime: &Runtime) -> Result<(), Failure> {
    let mut costs = AFTER.map(|_| Vec::new());
    for run in 1..=RUNS {
        progress(format!("run {run} of {RUNS}: cost per order after 10^4 to 10^6 orders"));
        let engine = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::new(SystemClock)));
        runtime.block_on(engine.open(sale::terms(UNITS)))?;
        let mut taken = 0;
        for ((after, _), costs) in AFTER.iter().zip(&mut costs) {
            cost(runtime, &engine, taken..*after)?;
            taken = after + WINDOW;
            costs.push(cost(runtime, &engine, *after..taken)?);
        }
    }
    let costs = costs.map(median);
    for ((_, name), cost) in AFTER.iter().zip(costs) {
        figure(name, cost, "us");
    }
    ratio("embedded.flat", costs[0].min(costs[1]) / costs[2]);
    Ok(())
}

/// The CPU time per order in a range of buyers, in microseconds.
fn cost(runtime: &Runtime, engine: &EmbeddedLedger, buyers: std::ops::Range<u64>) -> Result<f64, Failure> {
    let orders = count(buyers.end - buyers.start);
    let batches: Vec<_> = sale::requests(buyers).chunks(BATCH).map(<[_]>::to_vec).collect();
    let before = machine::cpu_time();
    runtime.block_on(async {
        for batch in batches {
            let answer = engine.reserve(sale::lane(), None, batch).await?;
            if answer.outcomes.iter().any(|outcome| outcome.order().is_none()) {
                return Err("an order was declined".into());
            }
        }
        Ok::<_, Failure>(())
    })?;
    Ok((machine::cpu_time() - before).as_secs_f64() * 1e6 / orders)
}
