//! The reference server of flashsale: hyper in front, the library behind, nothing else needed to run.
//!
//! [`http`] carries requests and answers and knows no business; [`routes`] maps them to the services of
//! `flashsale-core`; [`serve`] puts both together with a [`config::Config`].

pub mod background;
pub mod cli;
pub mod config;
pub mod http;
pub mod import;
pub mod logging;
pub mod routes;
pub mod serve;
pub mod signals;
pub mod wire;
