//! What buyers see without the ledger: published activities, products and SKUs as pages and JSON.
//!
//! [`Storefront`] owns all of it; nothing else changes it.

pub mod assets;
pub mod export;
pub mod pages;
pub mod products;
pub mod published;
mod storefront;
#[cfg(test)]
mod tests;

pub use storefront::{Storefront, Unrendered};
