//! The ledger, which keeps the stock, limits and orders of offers.
//!
//! [`state_machine`] is the specification, without I/O. Every backend implements the trait
//! [`Ledger`]; [`Gate`] and [`Truth`] extend it for two-tier deployments. Applications use the
//! concrete services instead of these traits: validation and retries live there.

mod advance;
mod error;
mod event;
mod gate;
pub mod invariants;
mod lane;
mod ledger;
mod position;
mod reserve;
mod role;
pub mod state_machine;
mod stock;
mod terms;
mod time_step;
mod truth;
mod view;

pub use advance::{Advance, Advanced, Advances, Closing, Due, RefundOutcome, RefundTask};
pub use error::LedgerError;
pub use event::{ChangeId, Entry, Event, OrderChange, Placed};
pub use gate::Gate;
pub use lane::{Bucket, Lane};
pub use ledger::{Bounds, Consumer, Kept, Ledger, Opened, Reference};
pub use position::{BatchId, Epoch, Fence, Position};
pub use reserve::{Outcome, Reservations, Reserve, ReserveMode};
pub use role::LedgerRole;
pub use stock::{Adjusted, Adjustment, AdjustmentId, Stock, Transfer};
pub use terms::{Change, Terms, Timing};
pub use time_step::{StepId, TimeStep};
pub use truth::{Chunk, NextEpoch, PersistMode, RefusalReason, Truth, Verdict};
pub use view::{BuyerFilter, OfferView, View};
