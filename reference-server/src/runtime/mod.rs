//! The process environment: background work, signals, logging, file limits.

pub mod background;
pub mod current_request;
pub mod logging;
pub mod open_files;
pub mod signals;
