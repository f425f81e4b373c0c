//! Command-line arguments. The doc comments here are the text of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use flashsale_core::domain::Currency;

/// Flash sales that never sell a unit twice.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve buyers and operators until SIGTERM.
    Serve(ServeArgs),
    /// Import products, SKUs, activities and offers from CSV and JSON files.
    Import(ImportArgs),
    /// Export the published pages as files, for a static host or a CDN.
    Publish(PublishArgs),
    /// Back up the data of a running or stopped server into a new directory.
    Backup(BackupArgs),
    /// Restore a backup into a new data directory.
    Restore(RestoreArgs),
    /// List jobs that failed too often (dead letters), replay one, or discard one.
    DeadLetters(DeadLettersArgs),
    /// Check that every unit, order and payment is accounted for; exit with 1 if not.
    Audit(AuditArgs),
    /// Print the effective configuration with the source of each value; exit with 1 if invalid.
    CheckConfig(ServeArgs),
}

/// Flags of `serve` and `check-config`; they override the environment and the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Run an insecure demo: demo data, demo identity, sandbox payments, generated secrets.
    #[arg(long)]
    pub demo: bool,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Keep all data in memory: orders are lost when the process ends.
    #[arg(long, conflicts_with = "data")]
    pub in_memory: bool,
    /// Serve all connections from one multi-threaded runtime instead of one runtime per core.
    #[arg(long)]
    pub shared_runtime: bool,
}

/// The configuration file and the data directory of a command.
#[derive(Clone, Debug, Default, Args)]
pub struct StorageArgs {
    /// Configuration file in TOML format.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory; overrides storage.directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
}

/// How a command reaches a running server. Without `--server` it opens the data directory itself.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerArgs {
    /// Operations listener of a running server; prefix it with https:// if it uses TLS.
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pub server: Option<String>,
    /// File with the CA certificates (PEM) to verify the server's; required for https://.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Operations token.
    #[arg(long, value_name = "TOKEN", env = "FLASHSALE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Flags of `import`.
#[derive(Clone, Debug, Default, Args)]
pub struct ImportArgs {
    /// Files, or directories with products.csv, skus.csv, activities.csv and offers.csv.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Format of the files; `shopify` is a product export (CSV) of a shop there.
    #[arg(long, value_enum, default_value_t)]
    pub format: ImportFormat,
    /// Currency of the prices in a file that does not name it, such as USD.
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Currency>,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The running server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The format of the files of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// The tables and documents of docs/IMPORT.md.
    #[default]
    Flashsale,
    /// Product exports of Shopify.
    Shopify,
}

/// Flags of `publish`.
#[derive(Clone, Debug, Default, Args)]
pub struct PublishArgs {
    /// Output directory: new, empty, or written by this command before.
    #[arg(long, value_name = "DIRECTORY")]
    pub out: PathBuf,
    /// URL of the public listener, such as `https://api.example`; defaults to http.public_url.
    #[arg(long, value_name = "URL")]
    pub api_base: Option<String>,
    /// Add the demo sign-in to the pages, for a server that runs with --demo.
    #[arg(long)]
    pub demo: bool,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Flags of `backup`.
#[derive(Clone, Debug, Default, Args)]
pub struct BackupArgs {
    /// New or empty directory; with --server, a path on the server's machine.
    #[arg(value_name = "DIRECTORY")]
    pub to: PathBuf,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The running server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `restore`.
#[derive(Clone, Debug, Default, Args)]
pub struct RestoreArgs {
    /// Directory that `backup` has written.
    #[arg(value_name = "DIRECTORY")]
    pub from: PathBuf,
    /// The data directory to create: new or empty.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Flags of `dead-letters`; without `--replay` or `--discard` it lists all.
#[derive(Clone, Debug, Default, Args)]
pub struct DeadLettersArgs {
    /// Run this job again, starting with attempt 1.
    #[arg(long, value_name = "ID")]
    pub replay: Option<u64>,
    /// Drop this job for good; a refund is then marked as failed.
    #[arg(long, value_name = "ID", conflicts_with = "replay")]
    pub discard: Option<u64>,
    /// Reason, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The running server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `audit`.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditArgs {
    /// Verify the audit trail instead: that no row was changed, removed or inserted by hand.
    #[arg(long)]
    pub verify: bool,
    /// Configuration file and data directory.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The running server.
    #[command(flatten)]
    pub server: ServerArgs,
}
