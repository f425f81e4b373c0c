//! The groups of figures.

pub mod bots;
pub mod core;

use crate::Failure;

/// The names of the groups.
pub const NAMES: [&str; 2] = ["core", "bots"];

/// Makes the figures of a group.
///
/// # Errors
/// There is no such group, or something could not be measured.
pub fn run(name: &str) -> Result<(), Failure> {
    match name {
        "core" => core::run(),
        "bots" => bots::run(),
        _ => Err(format!("there is no group {name}; there is: {}", NAMES.join(", ")).into()),
    }
}
