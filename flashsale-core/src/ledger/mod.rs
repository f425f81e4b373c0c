//! The ledger, which keeps the stock, limits and orders of offers.
//!
//! [`state_machine`] is the specification, without I/O. Every backend implements the trait
//! [`Ledger`], which takes commands and answers queries; [`LedgerCalls`] are its typed calls. Applications
//! use the concrete services instead: validation and retries live there.

mod advance;
mod call_values;
mod calls;
mod command;
mod error;
mod event;
pub mod invariants;
mod lane;
mod ledger;
mod payment_ref;
mod position;
mod reserve;
mod role;
pub mod rows;
pub mod state_machine;
mod stock;
mod terms;
mod time_step;
mod truth;
mod view;
pub mod wire;

pub use advance::{Advance, Advanced, Advances, Closing, Due, RefundOutcome, RefundTask};
pub use call_values::{Consumer, Kept, Opened};
pub use calls::LedgerCalls;
pub use command::{Answer, Command, Query, Reply};
pub use error::LedgerError;
pub use event::{ChangeId, Entry, Event, OrderChange, Placed};
pub use lane::{Bucket, Lane};
pub use ledger::{Bounds, Ledger};
pub use payment_ref::PaymentRef;
pub use position::{BatchId, Epoch, Position};
pub use reserve::{Outcome, Reservations, Reserve, ReserveMode};
pub use role::LedgerRole;
pub use stock::{Adjusted, Adjustment, AdjustmentId, Stock, Transfer};
pub use terms::{Change, Terms, Timing};
pub use time_step::{StepId, TimeStep};
pub use truth::{Chunk, NextEpoch, PersistMode, RefusalReason, Verdict};
pub use view::{BuyerFilter, OfferView, View};
