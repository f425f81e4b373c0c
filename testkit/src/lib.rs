//! Test utilities: server processes that can be killed at any time, disks that lose power, an HTTP
//! client, simulated buyers that log all answers, and checks of that log against the server.
//!
//! Everything here talks to a server through its sockets and knows none of its internals. A helper
//! that fails panics with the server's output, to make failed tests readable.

use std::io::Write;

pub mod buyers;
pub mod checks;
pub mod client;
pub mod disk;
pub mod mariadb;
pub mod process;

/// The factor for the number of cases, rounds and seeds: `FLASHSALE_TEST_SCALE`, 1 by default.
///
/// # Panics
/// If the variable is not a whole number from 1 to 1000.
pub fn scale() -> u32 {
    let Some(text) = std::env::var_os("FLASHSALE_TEST_SCALE") else { return 1 };
    let scale = text.to_str().and_then(|text| text.parse().ok()).filter(|scale| (1..=1000).contains(scale));
    scale.unwrap_or_else(|| panic!("FLASHSALE_TEST_SCALE is {text:?}, but must be from 1 to 1000"))
}

/// Prints a message to standard error even if the test passes, such as a count or "not run". It
/// bypasses the test runner, which captures the output of passing tests.
pub fn say(what: &str) {
    // A closed standard error must not fail a test.
    let _ = writeln!(std::io::stderr(), "{what}");
}
