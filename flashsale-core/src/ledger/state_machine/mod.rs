//! The specification of the ledger: a state machine without I/O, async, clock or randomness.
//!
//! A [`StateMachine`] holds the lanes of all activities. Its methods are those of the traits, with the time and a batch id as
//! arguments: each decides, and applies the events of what it decided. The same calls in the same order give the same
//! answers, so a backend is right if it answers as a book does. The embedded engine is a book behind a journal.
//!
//! Where to look: `reserve` has the order of precedence, `advance` the status table, `lane` what an event does to stock,
//! limits and orders, `buckets` the transfers, `gate` and `truth` the two tiers, `outbox` the consumers.

mod advance;
mod batch;
mod buckets;
mod census;
mod consumers;
mod gate;
mod image;
mod inspect;
mod lane;
mod limit_counters;
mod machine;
mod order_events;
mod orders;
mod outbox;
mod prepared;
mod queries;
mod record;
mod replay;
mod reserve;
mod truth;
mod units;

pub use batch::Batch;
pub use census::Census;
pub use image::Image;
pub use inspect::{CounterInspection, Inspection, LaneInspection, OfferInspection};
pub use lane::CorruptState;
pub use machine::StateMachine;
pub use prepared::Prepared;
