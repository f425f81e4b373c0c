//! The flashsale reference server: hyper in front of `flashsale-core`; needs no other service.
//!
//! [`http`] is the transport and contains no business logic. [`routes`] maps requests to the
//! services of `flashsale-core`. [`cli::serve`] assembles both from a [`config::Config`].

// They panic if nobody reads the output; `cli::output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod auth;
pub mod backup;
pub mod bidi;
pub mod challenge;
pub mod cli;
pub mod config;
pub mod http;
pub mod import;
pub mod integrations;
pub mod monitoring;
pub mod rfc3339;
pub mod routes;
pub mod runtime;
pub mod storefront;
pub mod views;
