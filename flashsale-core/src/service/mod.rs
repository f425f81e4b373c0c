//! Services: what applications call. Validation, retries and the shortcuts of the hot path live here, once, above
//! whatever [`Ledger`](crate::ledger::Ledger) is underneath.
//!
//! [`Sales`] holds a queue and a view for each lane; [`Ordering`] takes orders; [`Payments`] talks to providers;
//! [`Upkeep`] does what nobody asks for: views, expiry, refunds, transfers. [`Operations`] is what operators do,
//! [`Recorder`] gives what they change in the ledger its audit rows, and [`Notifier`] tells other systems what happens to
//! orders.

mod maintenance;
mod operations;
mod ordering;
mod outbox;
mod payments;
mod refunds;
mod sales;
#[cfg(test)]
mod tests;

pub use maintenance::Upkeep;
pub use operations::{ActivityEdit, ActivityStep, NewActivity, OperationError, Operations};
pub use ordering::{OrderRequest, Ordering, Placement, ServiceError};
pub use outbox::{
    EventSink, Notification, NotificationKind, Notifier, NotifyError, RecordError, Recorder, SinkError,
};
pub use payments::{CaptureResult, Closed, OpenedPayment, PaymentProvider, Payments, ProviderError};
pub use refunds::RefundError;
pub use sales::{Batcher, BatcherError, BatcherOptions, Front, Numbers, RecentBuyers, Sale, Sales};
