//! The figures of the library alone: the embedded engine with its journal on disk, and the parts that run in memory.

mod durable;
mod flat;
mod latency;
mod memory;
mod parts;
mod plain_file;

pub use memory::{OPEN_ORDERS, print_open_orders};

use super::{directory, place};
use crate::{Failure, machine};

/// Durable orders per second that the engine has to take.
const REQUIRED: f64 = 250_000.0;

/// Makes the figures.
///
/// # Errors
/// The journal could not be written, or an order was declined.
pub fn run() -> Result<(), Failure> {
    let place = place()?;
    machine::describe(&place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let orders_per_s = durable::run(&runtime, &place)?;
    latency::run(&runtime, directory(&place)?.path(), REQUIRED / 2.0, "")?;
    latency::run(&runtime, directory(&place)?.path(), orders_per_s / 2.0, ".at_half_of_measured")?;
    durable::run_others(&runtime, &place)?;
    memory::run()?;
    flat::run(&runtime)?;
    parts::run()
}
