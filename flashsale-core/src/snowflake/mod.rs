//! Snowflake ids: increasing 63-bit numbers of time, worker and sequence, generated without locks.
//!
//! A [`Generator`] uses a logical clock, `max(last, now)`, so ids stay unique if the wall clock
//! steps back. If it steps back too far, the generator goes on with another worker id. A generator
//! out of ids for a millisecond borrows from the next ones, at most
//! [`Settings::ahead`] past the wall clock. Beyond that it returns the time to wait; it never blocks.
//!
//! Worker ids are leased, so that two generators never make the same id:
//! 1. A [`WorkerLease`] grants a [holder](HolderId) a worker id **and a span of id time**. The end
//!    of the span is on disk before the first id is made.
//! 2. [`renew_lease`] extends the span in time. Without renewal the generator stops itself at its end.
//! 3. The next holder of the worker id starts where the last span ended, whatever happened to the
//!    process or its clock.
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
pub use lease::{HolderId, InMemoryLease, Lease, LeaseError, WorkerLease, WorkerState};
pub use lease_renewal::renew_lease;
