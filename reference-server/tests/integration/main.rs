//! Tests of the server over real sockets.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod client;
mod transport;
