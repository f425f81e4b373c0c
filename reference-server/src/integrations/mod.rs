//! Connections to other systems: payment providers and notification receivers.

pub mod sandbox;
pub mod webhook;
