//! The memory of an open order: how much a new process grows by a million of them.

use std::{process::Command, sync::Arc};

use flashsale_core::{
    domain::SystemClock,
    embedded::EmbeddedLedger,
    ledger::{LedgerCalls as _, LedgerRole},
};

use crate::{
    Failure, machine,
    report::{count, figure, progress},
    sale,
};

/// The argument with which `figures` runs itself for this measurement.
pub const OPEN_ORDERS: &str = "open-orders";

const ORDERS: u64 = 1_000_000;
const BATCH: u64 = 1_000;

/// Measures in a new process, whose allocator is unused.
pub(super) fn run() -> Result<(), Failure> {
    progress(format!("memory of {ORDERS} open orders"));
    let output = Command::new(std::env::current_exe()?).arg(OPEN_ORDERS).output()?;
    if !output.status.success() {
        return Err(
            format!("the measuring process failed: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    let bytes: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    figure("embedded.bytes_per_open_order", count(bytes) / count(ORDERS), "bytes");
    Ok(())
}

/// Places the orders and prints the growth of this process in bytes, including the offer's indices.
///
/// # Errors
/// If an order is declined, or the memory cannot be read.
pub fn print_open_orders() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let engine = EmbeddedLedger::in_memory(LedgerRole::Single, Arc::new(SystemClock));
    let before = machine::resident_bytes()?;
    runtime.block_on(async {
        engine.open(sale::terms(u32::try_from(ORDERS)?)).await?;
        for first in (0..ORDERS).step_by(usize::try_from(BATCH)?) {
            let answer = engine.reserve(sale::lane(), None, sale::requests(first..first + BATCH)).await?;
            if answer.outcomes.iter().any(|outcome| outcome.order().is_none()) {
                return Err("an order was declined".into());
            }
        }
        Ok::<_, Failure>(())
    })?;
    println!("{}", machine::resident_bytes()? - before);
    Ok(())
}
