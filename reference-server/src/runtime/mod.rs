//! What the process needs to run: background work, signals, the log, open files.

pub mod background;
pub mod current_request;
pub mod logging;
pub mod open_files;
pub mod signals;
