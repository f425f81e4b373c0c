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
    /// Import products, SKUs, activities and offers from CSV and JSON files.
    Import(ImportArgs),
    /// Write the pages of what is published as files, for a static host or a CDN.
    Publish(PublishArgs),
    /// Copy the data of a running server into a new directory.
    Backup(BackupArgs),
    /// Put a backup into a new data directory.
    Restore(RestoreArgs),
    /// Show jobs that could not be done, have one tried again, or give one up.
    DeadLetters(DeadLettersArgs),
    /// Check that every unit, order and payment is accounted for; ends with 1 if not.
    Audit(AuditArgs),
    /// Show the configuration that `serve` would use, and where each value came from; ends with 1 if something is wrong.
    CheckConfig(ServeArgs),
}

/// Flags of `serve` and `check-config`; they win over environment and configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Show it all on one machine: demo data, demo identity, sandbox payments, generated secrets and tokens.
    #[arg(long)]
    pub demo: bool,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Keep nothing: orders are gone when the process ends.
    #[arg(long, conflicts_with = "data")]
    pub in_memory: bool,
    /// Serve everything from one multi-thread runtime instead of one runtime per core.
    #[arg(long)]
    pub shared_runtime: bool,
}

/// Where a command finds configuration and data.
#[derive(Clone, Debug, Default, Args)]
pub struct StorageArgs {
    /// Read the configuration from this TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
}

/// How a command reaches a running server; without it the data directory of a stopped one is opened.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerArgs {
    /// The operations listener of a running server, with https:// before it if it speaks TLS.
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pub server: Option<String>,
    /// For https://: the file with the certificates (PEM) of those who may vouch for the server's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// An operations token.
    #[arg(long, value_name = "TOKEN", env = "FLASHSALE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Flags of `import`.
#[derive(Clone, Debug, Default, Args)]
pub struct ImportArgs {
    /// Files, or directories with products.csv, skus.csv, activities.csv and offers.csv.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which server to talk to.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `publish`.
#[derive(Clone, Debug, Default, Args)]
pub struct PublishArgs {
    /// Where the files go: a new or empty directory, or one that this command has written.
    #[arg(long, value_name = "DIRECTORY")]
    pub out: PathBuf,
    /// Under which address the pages reach the public listener, as in `https://api.example`; without it `http.public_url`.
    #[arg(long, value_name = "URL")]
    pub api_base: Option<String>,
    /// The server that the pages call runs with --demo: they offer to sign in.
    #[arg(long)]
    pub demo: bool,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Flags of `backup`.
#[derive(Clone, Debug, Default, Args)]
pub struct BackupArgs {
    /// A new or empty directory, as the server sees it.
    #[arg(value_name = "DIRECTORY")]
    pub to: PathBuf,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which server to talk to.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `restore`.
#[derive(Clone, Debug, Default, Args)]
pub struct RestoreArgs {
    /// What a backup has written.
    #[arg(value_name = "DIRECTORY")]
    pub from: PathBuf,
    /// Where the data goes: a new or empty directory.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Flags of `dead-letters`; without `--replay` and `--discard` all are listed.
#[derive(Clone, Debug, Default, Args)]
pub struct DeadLettersArgs {
    /// Have this one tried again from the beginning.
    #[arg(long, value_name = "ID")]
    pub replay: Option<u64>,
    /// Give this one up; a refund has failed for good then.
    #[arg(long, value_name = "ID", conflicts_with = "replay")]
    pub discard: Option<u64>,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which server to talk to.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `audit`.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditArgs {
    /// Check the audit trail instead: that none of its rows was changed, removed or put there by hand.
    #[arg(long)]
    pub verify: bool,
    /// Where the data is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which server to talk to.
    #[command(flatten)]
    pub server: ServerArgs,
}
