//! The groups of figures.

pub mod bots;
pub mod core;
pub mod http;

use crate::Failure;

/// The names of the groups.
pub const NAMES: [&str; 3] = ["core", "bots", "http"];

/// Makes the figures of a group.
///
/// # Errors
/// There is no such group, or something could not be measured.
pub fn run(name: &str) -> Result<(), Failure> {
    match name {
        "core" => core::run(),
        "http" => http::run(),
        "bots" => bots::run(),
        _ => Err(format!("there is no group {name}; there is: {}", NAMES.join(", ")).into()),
    }
}
