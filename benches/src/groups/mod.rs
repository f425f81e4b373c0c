//! Groups of figures.

pub mod bots;
pub mod core;
pub mod http;
pub mod mysql;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Failure;

/// The names of all groups.
pub const NAMES: [&str; 4] = ["core", "bots", "http", "mysql"];

/// Measures and prints a group of figures.
///
/// # Errors
/// If there is no such group, or a measurement fails.
pub fn run(name: &str) -> Result<(), Failure> {
    match name {
        "core" => core::run(),
        "http" => http::run(),
        "bots" => bots::run(),
        "mysql" => mysql::run(),
        _ => Err(format!("there is no group {name}; the groups are {}", NAMES.join(", ")).into()),
    }
}

/// The parent of all data: the directory of this program, since /tmp may be in memory.
fn data_root() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or("the program has no parent directory")?.to_path_buf())
}

fn temp_directory(root: &Path) -> Result<TempDir, Failure> {
    Ok(tempfile::Builder::new().prefix("figures-").tempdir_in(root)?)
}
