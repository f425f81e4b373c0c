//! flashsale-core
pub mod domain;
