//! flashsale-core

/// Whether a seeded fault is active; without the feature `mutants` the constant `false`.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::is_active($name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

pub mod batcher;
pub mod catalogue;
pub mod domain;
pub mod embedded;
pub mod ledger;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod rate;
pub mod service;
pub mod snowflake;
pub mod ticket;
