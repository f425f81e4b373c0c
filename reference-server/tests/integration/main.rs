//! Tests of the server over real sockets.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may panic")]

mod activities;
mod audit;
mod breaker;
mod callbacks;
mod client;
mod clock;
mod commands;
mod console;
mod contract;
mod dead_letters;
mod declined;
mod deploy;
mod forged;
mod guards;
mod identity;
mod idle;
mod key_sets;
mod log;
mod malformed;
mod mass_assignment;
mod metrics;
mod monitor;
mod notifications;
mod operations;
mod pages;
mod purchase;
mod restart;
mod secrecy;
mod shop;
mod soak;
mod stable_names;
mod tickets;
mod tls;
mod transport;
