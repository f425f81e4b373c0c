//! Snowflake ids: 63-bit numbers of time, worker and sequence that increase, made without a lock and without asking anybody.
//!
//! A [`Generator`] runs on a logical clock, `max(last, now)`, so a wall clock that steps back does not repeat an id. More
//! ids than fit a millisecond are borrowed from the next ones, at most [`Settings::ahead`] before the wall clock;
//! beyond that the generator answers with the time to wait. It never blocks and never sleeps.
//!
//! Two generators never make the same id because a [`WorkerLease`] grants each of them a worker id **and the span of
//! id time** that it may use; the end of every span granted is on disk before the first id of the span is made. Whoever gets
//! the worker id next starts where that span ended, whatever happened to the process or its clock. [`keep`] renews the
//! lease ahead of its end; without that, the generator stops itself.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use flashsale_core::{domain::{OrderId, SystemClock}, snowflake::{Generator, InMemoryLease, Settings}};
//!
//! let leases = InMemoryLease::new(0..=1023);
//! let generator = Generator::acquire(&leases, &Settings::default(), Arc::new(SystemClock)).await?;
//! let order: OrderId = generator.next()?.into();
//! let batch: Vec<OrderId> = generator.take(100)?.map(OrderId::from).collect();
//! assert!(order < batch[0]);
//! # Ok(()) }
//! ```

mod generator;
mod layout;
mod lease;
mod lease_renewal;
#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests;

pub use generator::{Generator, Id, IdError, Ids, Settings, StartError};
pub use layout::{Layout, Parts};
pub use lease::{InMemoryLease, Lease, LeaseError, WorkerLease};
pub use lease_renewal::keep;
