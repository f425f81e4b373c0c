//! Authentication: buyers, secrets, demo sessions, JWTs, receipts, and callback signatures.

pub mod buyers;
pub mod caller;
pub mod jwt;
pub mod keyring;
pub mod receipts;
pub mod sessions;
pub mod signature;
