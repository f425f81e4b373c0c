//! The groups of figures.

pub mod bots;
pub mod core;
pub mod http;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

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

/// Where data is written: beside this program, which is on a disk and not in memory as /tmp may be.
fn place() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or("the program is in no directory")?.to_path_buf())
}

fn directory(place: &Path) -> Result<TempDir, Failure> {
    Ok(tempfile::Builder::new().prefix("figures-").tempdir_in(place)?)
}
