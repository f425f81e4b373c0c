//! The hot path: for each lane a batcher, a cached view, and the buyers who won since the view was
//! read.

mod batch_loop;
mod batch_queue;
mod batcher;
mod batcher_metrics;
mod kill_switch;
mod lane_changes;
mod recent_buyers;
mod sale;
mod sales;
mod unit_transfer;

pub use batcher::{Batcher, BatcherError, BatcherOptions};
pub use batcher_metrics::BatcherMetrics;
pub use lane_changes::ChangedLanes;
pub use recent_buyers::RecentBuyers;
pub use sale::{LaneFront, Sale};
pub use sales::Sales;
pub(in crate::service) use unit_transfer::{borrow_units, settle_transfer};
