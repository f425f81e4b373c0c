//! The command line: arguments, `serve`, and the other commands.

pub mod args;
pub mod check_config;
pub mod commands;
pub mod output;
pub mod remote_server;
pub mod serve;

pub use args::{Cli, Command};
