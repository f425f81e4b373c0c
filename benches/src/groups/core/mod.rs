//! Figures of the library: the embedded engine with its journal on disk, and the in-memory parts.

mod durable;
mod flat;
mod latency;
mod memory;
mod parts;
mod plain_file;
mod slowest;

pub use memory::{OPEN_ORDERS, print_open_orders};

use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::{data_root, temp_directory};
use crate::{Failure, machine};

/// The number of durable orders per second that the engine must handle.
const REQUIRED: f64 = 250_000.0;

/// The argument behind the group's name for the slowest moments alone.
pub const SLOWEST: &str = "slowest";

/// Measures and prints the figures.
///
/// # Errors
/// If the journal cannot be written, or an order is declined.
pub fn run() -> Result<(), Failure> {
    let (root, runtime) = prepare()?;
    let orders_per_s = durable::run(&runtime, &root)?;
    latency::run(&runtime, temp_directory(&root)?.path(), REQUIRED / 2.0, "")?;
    latency::run(&runtime, temp_directory(&root)?.path(), orders_per_s / 2.0, ".at_half_of_measured")?;
    durable::run_others(&runtime, &root)?;
    slowest::run(&runtime, &root)?;
    memory::run()?;
    flat::run(&runtime)?;
    parts::run()
}

/// Measures and prints the slowest moments only.
///
/// # Errors
/// As [`run`].
pub fn run_slowest() -> Result<(), Failure> {
    let (root, runtime) = prepare()?;
    slowest::run(&runtime, &root)
}

fn prepare() -> Result<(PathBuf, Runtime), Failure> {
    let root = data_root()?;
    machine::describe(&root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    Ok((root, runtime))
}
