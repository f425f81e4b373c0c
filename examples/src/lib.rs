//! Small programs that answer the questions of flashsale users.
//!
//! Each prints what it does, explains itself step by step in its source, and fails if a claim does
//! not hold. Run one with `cargo run -p flashsale-examples --example NAME`:
//!
//! - `embed`: how do I sell through the library in my own service?
//! - `strategies`: how do the three strategies differ, and what happens to late payments?
//! - `risk_profile`: how do I decide myself which buyers look like bots?
//! - `payment_provider`: how do I connect my payment provider, and what if it is down?
//! - `event_sink`: how does another system learn about order events?
//! - `own_backend`: how do I test my own ledger with the conformance suite?
//!
//! `data/` contains a catalogue for the reference server; `docs/IMPORT.md` describes its format.

/// The Rust example in the README, as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
