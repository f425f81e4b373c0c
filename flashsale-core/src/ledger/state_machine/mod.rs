//! The specification of the ledger: a state machine without I/O, async, clock or randomness.
//!
//! A [`StateMachine`] holds the lanes of all activities. Its methods are those of the traits, with
//! a [`Batch`] (id and time) as an argument. Each works in two steps: decide without changing
//! anything, then apply the events of the decision. The same calls in the same order give the same
//! answers, so a backend is correct if it answers as the state machine does. The embedded engine is
//! this state machine behind a journal.
//!
//! | To change | open |
//! |---|---|
//! | the order of precedence of a reserve | `precedence` |
//! | the status table of later steps | `transitions` |
//! | what an event does to an order, its units, limits and deadline | `order_events`, `units`, `limit_counters` |
//! | a step of the deciding clock | `time_step` |
//! | a lane's terms and stock | `lane`; transfers between lanes: `buckets` |
//! | the two tiers | `gate`, `truth` |
//! | the outbox | `outbox`, `consumers` |
//! | activities out of memory | `archive` |
//! | deciding on rows of a store | `needs`, `excerpt` |
//! | memory reserved ahead of a sale | `room`, `prepared` |
//! | the journal and the snapshot | `journal_record` and `replay`; `snapshot_image` |

mod activity;
mod archive;
mod away;
mod batch;
mod buckets;
mod census;
mod consumers;
mod excerpt;
mod gate;
mod inspect;
mod journal_record;
mod lane;
mod limit_counters;
mod loading;
mod machine;
mod needs;
mod order_events;
mod order_v1;
mod orders;
mod outbox;
mod precedence;
mod prepared;
mod queries;
mod replay;
mod reserving;
mod room;
mod snapshot_image;
mod step;
mod time_step;
mod transitions;
mod truth;
mod units;

pub use archive::{ArchivedActivity, ReturningActivity};
pub use away::{LeavingActivity, StoredActivity};
pub use batch::Batch;
pub use census::Census;
pub use consumers::MAX_UNREAD;
pub use inspect::{CounterInspection, Inspection, LaneInspection, OfferInspection};
pub use lane::CorruptState;
pub use machine::StateMachine;
pub use order_v1::OrderV1;
pub use prepared::Prepared;
pub use reserving::UnusedRoom;
pub use room::RoomBudget;
pub use snapshot_image::Image;
pub use units::Units;
