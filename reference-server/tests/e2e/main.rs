//! End-to-end tests: the real binary, real sockets, crowds of buyers, crashes.
//!
//! The tests use only the two listeners and the command line. Randomised tests print their seed;
//! set `FLASHSALE_TEST_SEED` to repeat a run.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may panic")]

mod crash;
mod crowd;
mod refusals;
mod shutdown;
mod site;
mod slow;
mod start;
