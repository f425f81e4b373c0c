//! Shared code of the benchmarks: the sale, machine readings and the groups of `figures`.
//!
//! `cargo run --release -p flashsale-benches --bin figures -- core` prints the figures of
//! docs/BENCHMARKS.md; `cargo bench -p flashsale-benches` runs the micro-benchmarks.

pub mod groups;
pub mod ids;
pub mod machine;
pub mod report;
pub mod sale;

/// Why a measurement failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
