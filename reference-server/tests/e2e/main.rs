//! End-to-end tests: the real binary, real sockets, crowds of buyers, crashes.
//!
//! Everything is looked at from outside, through the two listeners and the command line. Randomised tests print their
//! seed; `FLASHSALE_TEST_SEED` repeats one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

mod crash;
mod crowd;
mod refusals;
mod shutdown;
mod site;
mod slow;
