//! The reference server of flashsale: hyper in front, the library behind, nothing else needed to run.
//!
//! [`http`] carries requests and answers and knows no business; [`routes`] maps them to the services of
//! `flashsale-core`; [`serve`] puts both together with a [`config::Config`].

pub mod app;
pub mod assets;
pub mod audit;
pub mod background;
pub mod backup;
pub mod call;
pub mod challenge;
pub mod cli;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod document;
pub mod export;
pub mod http;
pub mod import;
pub mod jwt;
pub mod keyring;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod pages;
pub mod publish;
pub mod receipt;
pub mod request;
pub mod routes;
pub mod sandbox;
pub mod serve;
pub mod session;
pub mod sheets;
pub mod shelf;
pub mod signals;
pub mod signature;
pub mod tls;
pub mod webhook;
pub mod wire;
