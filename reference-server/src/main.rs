//! The binary: parses the command line and calls the library.

use std::process::ExitCode;

use clap::Parser;
use reference_server::{
    cli::{Cli, Command, commands, output::complain, serve},
    runtime::logging,
};
use rustix::{fs::Mode, process::umask};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Data files contain orders, names and secrets: only this user may read them.
    umask(Mode::RWXG | Mode::RWXO);
    let command = Cli::parse().command;
    if !matches!(command, Command::Serve(_)) {
        logging::start_for_command();
    }
    let outcome = match command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Import(args) => commands::import(&args),
        Command::Publish(args) => commands::publish(&args),
        Command::Backup(args) => commands::backup(&args),
        Command::Restore(args) => commands::restore(&args),
        Command::DeadLetters(args) => commands::dead_letters(&args),
        Command::Audit(args) => commands::audit(&args),
        Command::CheckConfig(args) => commands::check_config(&args),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}
