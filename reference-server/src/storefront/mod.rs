//! What buyers see without asking the ledger: published activities, products and SKUs, written out as pages and JSON.
//!
//! [`Storefront`] owns all of it, and is the only one that writes it.

pub mod assets;
pub mod export;
pub mod pages;
pub mod products;
pub mod published;
mod storefront;
#[cfg(test)]
mod tests;

pub use storefront::Storefront;
