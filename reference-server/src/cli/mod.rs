//! The command line: its arguments, `serve`, and the commands beside it.

pub mod args;
pub mod check_config;
pub mod commands;
pub mod remote_server;
pub mod serve;

pub use args::{Cli, Command};
