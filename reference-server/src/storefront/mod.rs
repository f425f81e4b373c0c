//! What buyers see without asking the ledger: published activities, products and SKUs, written out as pages and JSON.

pub mod assets;
pub mod export;
pub mod pages;
pub mod products;
pub mod publish;
pub mod published;
