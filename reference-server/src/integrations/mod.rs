//! Connections to other systems: payment providers and notification receivers.

pub mod callbacks;
pub mod sandbox;
pub mod webhook;
