//! One small program per question that a user of flashsale has.
//!
//! Each prints what it does in plain words, explains itself step by step in its source, and fails if what it claims
//! does not hold. Run one with `cargo run -p flashsale-examples --example NAME`:
//!
//! - `embed`: how do I sell through the library inside my own service?
//! - `strategies`: what do the three strategies do with the same buyers, and what becomes of money that comes late?
//! - `risk_profile`: how do I decide myself who looks like a script?
//! - `payment_provider`: how do I connect my payment provider, and what happens while it is down?
//! - `event_sink`: how does another system learn what happens to orders?
//! - `own_backend`: how do I test a ledger of my own with the conformance suite, and what does a failure look like?
//!
//! Beside them, `data/` holds a catalogue that the reference server imports; `docs/IMPORT.md` describes its format.
