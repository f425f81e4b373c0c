//! Authentication: secrets, demo sessions, identity provider tokens, receipts, and callback
//! signatures.

pub mod caller;
pub mod jwt;
pub mod keyring;
pub mod receipts;
pub mod sessions;
pub mod signature;
