//! What the tests of flashsale share: server processes that can be killed at any moment, disks that lose power, an HTTP
//! client, crowds of buyers that note what they were told, and checks that compare the notes with what is there.
//!
//! Everything here speaks to a server through its sockets and knows nothing of its inside. A helper that cannot do its
//! part panics with what the server printed, because that is what the reader of a failed test needs.

use std::io::Write;

pub mod buyers;
pub mod checks;
pub mod client;
pub mod disk;
pub mod process;

/// How many times the plain number of cases, rounds and seeds a suite runs: `FLASHSALE_TEST_SCALE`, 1 unless set.
///
/// # Panics
/// When the variable is not a whole number from 1 to 1000.
pub fn scale() -> u32 {
    let Some(text) = std::env::var_os("FLASHSALE_TEST_SCALE") else { return 1 };
    let scale = text.to_str().and_then(|text| text.parse().ok()).filter(|scale| (1..=1000).contains(scale));
    scale.unwrap_or_else(|| panic!("FLASHSALE_TEST_SCALE is {text:?}, and has to be a number from 1 to 1000"))
}

/// Says something that also whoever lets a test pass has to see: what it counted, or that it did not run. It goes to
/// standard error past the test runner, which shows only what failing tests print.
pub fn say(what: &str) {
    // Nobody may be listening, which fails no test.
    let _ = writeln!(std::io::stderr(), "{what}");
}
