//! The binary: reads the command line and leaves the rest to the library.

use std::process::ExitCode;

use clap::Parser;
use reference_server::{
    cli::{Cli, Command},
    commands, logging, serve,
};
use rustix::{fs::Mode, process::umask};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    logging::start();
    // What is kept is for this user alone: orders, names, secrets.
    umask(Mode::RWXG | Mode::RWXO);
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Import(args) => commands::import(&args),
        Command::Backup(args) => commands::backup(&args),
        Command::Restore(args) => commands::restore(&args),
        Command::Audit(args) => commands::audit(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
