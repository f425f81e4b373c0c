//! Flash sales that never sell a unit twice.
//!
//! A *ledger* checks stock, limits, keys and tickets and writes the order, in one atomic step. This
//! crate has its [specification](ledger::state_machine), [traits](ledger) for backends, an
//! [embedded engine](embedded), and [services](service) for applications.
//!
//! If you sell without a rush, use a table and a transaction instead: that is simpler.
//!
#![cfg_attr(feature = "embedded", doc = "```")]
#![cfg_attr(not(feature = "embedded"), doc = "```ignore")]
//! use std::{num::NonZeroU16, sync::Arc, time::Duration};
//!
//! use flashsale_core::{
//!     domain::{
//!         ActivityId, Idempotency, Key, Money, Nonce, OfferTerms, OrderId, Quantity, SkuId, Strategy, Subjects,
//!         SystemClock, Timestamp, UserId, Window,
//!     },
//!     embedded::EmbeddedLedger,
//!     ledger::{Lane, LedgerCalls as _, Outcome, Reserve, ReserveMode, LedgerRole, Terms, Timing},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (activity, sku, user) = (ActivityId::try_from(1)?, SkuId::try_from(11)?, UserId::try_from(7)?);
//! let price = Money::new(9_900, "CNY".parse()?)?;
//! let hold = Some(Duration::from_secs(900));
//! let offer = OfferTerms::new(sku, price, 100, Strategy::PreDeduct, hold)?;
//! let window = Window::new(Timestamp::EPOCH, Timestamp::MAX)?;
//! let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer])?;
//!
//! let ledger = EmbeddedLedger::in_memory(LedgerRole::Single, Arc::new(SystemClock));
//! ledger.open(Arc::new(terms)).await?;
//! let request = Reserve {
//!     order: OrderId::try_from(1001)?,
//!     user,
//!     sku,
//!     quantity: Quantity::ONE,
//!     idempotency: Idempotency { key: Key::of_text("my first try"), nonce: Nonce(1) },
//!     subjects: Subjects::default(),
//!     mode: ReserveMode::NewOrder,
//! };
//! let answer = ledger.reserve(Lane::of(activity, user, NonZeroU16::MIN), None, vec![request]).await?;
//! assert!(matches!(answer.outcomes[0], Outcome::Reserved { .. }));
//! assert_eq!(ledger.stock(activity, sku).await?.expect("is offered").available, 99);
//! # Ok(())
//! # }
//! ```
//!
//! Next steps: [`service`] to sell, [`ledger`] to write a backend, the feature `conformance` to
//! test it, and the programs in `examples/`.

/// Whether a seeded fault is active; constant `false` without the feature `mutants`.
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

pub mod admission;
pub mod cache;
pub mod catalogue;
pub mod circuit_breaker;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod domain;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod identities;
mod interruptible_sleep;
pub mod ledger;
pub mod metrics;
#[cfg(feature = "mutants")]
pub mod mutants;
mod panic_message;
pub mod queue;
pub mod rate_limiter;
pub mod service;
pub mod snowflake;
pub mod tiered;
