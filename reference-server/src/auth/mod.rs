//! Who calls, and what the server signs and verifies: secrets, sessions, tokens of identity providers, receipts.

pub mod caller;
pub mod jwt;
pub mod keyring;
pub mod receipts;
pub mod sessions;
pub mod signature;
