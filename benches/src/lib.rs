//! What the benches share: the sale that they run, the readings of the machine, and the groups of `figures`.
//!
//! `cargo run --release -p flashsale-benches --bin figures -- core` makes the figures of docs/BENCHMARKS.md;
//! `cargo bench -p flashsale-benches` runs the micro-benches.

pub mod groups;
pub mod ids;
pub mod machine;
pub mod report;
pub mod sale;

/// Why figures could not be made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
