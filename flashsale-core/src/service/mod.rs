//! Services: what applications call. Validation, retries and the shortcuts of the hot path live here, once, above
//! whatever [`Ledger`](crate::ledger::Ledger) is underneath.
//!
//! [`Sales`] holds a queue and a view for each lane; [`OrderService`] takes orders; [`Payments`] talks to providers;
//! [`Maintenance`] does what nobody asks for: views, expiry, refunds, transfers. [`Operations`] is what operators do,
//! [`AuditRecorder`] gives what they change in the ledger its audit rows, and [`Notifier`] tells other systems what happens to
//! orders.

mod advance;
mod error;
mod maintenance;
mod operations;
mod ordering;
mod outbox;
mod payments;
mod refunds;
mod sales;
#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests;

pub use error::ServiceError;
pub use maintenance::Maintenance;
pub use operations::{ActivityEdit, ActivityStep, NewActivity, OperationError, Operations};
pub use ordering::{Attempt, OrderRequest, OrderService, Placement};
pub use outbox::{
    AuditRecorder, EventSink, Notification, NotificationKind, Notifier, NotifyError, RecordError, SinkError,
};
pub use payments::{CaptureResult, Closed, OpenedPayment, PaymentProvider, Payments, ProviderError};
pub use refunds::RefundError;
pub use sales::{
    Batcher, BatcherError, BatcherMetrics, BatcherOptions, LaneFront, RecentBuyers, Sale, Sales,
};
