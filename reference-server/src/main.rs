//! The binary: reads the command line and leaves the rest to the library.

use std::process::ExitCode;

use clap::Parser;
use reference_server::{
    cli::{Cli, Command},
    logging, serve,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    logging::start();
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
