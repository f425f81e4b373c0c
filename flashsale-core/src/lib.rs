//! flashsale-core
pub mod catalogue;
pub mod domain;
