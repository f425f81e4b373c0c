//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Flash sales that never sell a unit twice.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve buyers and operators until SIGTERM.
    Serve(ServeArgs),
}

/// Flags of `serve`; they win over the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Read the configuration from this TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show it all on one machine: demo identity, sandbox payments, generated secrets and tokens.
    #[arg(long)]
    pub demo: bool,
    /// Keep the data in this directory.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "in_memory")]
    pub data: Option<PathBuf>,
    /// Keep nothing: orders are gone when the process ends.
    #[arg(long)]
    pub in_memory: bool,
    /// Serve everything from one multi-thread runtime instead of one runtime per core.
    #[arg(long)]
    pub shared_runtime: bool,
}
