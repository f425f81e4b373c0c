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

/// Flags of `serve`; they win over the environment, which wins over the file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Read the configuration from this TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serve everything from one multi-thread runtime instead of one runtime per core.
    #[arg(long)]
    pub shared_runtime: bool,
}
