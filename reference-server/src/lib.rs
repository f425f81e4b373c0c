//! The reference server of flashsale: hyper in front, the library behind, nothing else needed to run.
//!
//! [`http`] carries requests and answers and knows no business; [`routes`] maps them to the services of
//! `flashsale-core`; [`cli::serve`] puts both together with a [`config::Config`].

pub mod app;
pub mod auth;
pub mod backup;
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
