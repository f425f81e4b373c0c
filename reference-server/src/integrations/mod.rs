//! Other systems: payment providers, and receivers of notifications.

pub mod sandbox;
pub mod webhook;
