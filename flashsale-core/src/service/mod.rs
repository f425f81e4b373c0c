//! The services that applications call. Validation, retries and hot-path shortcuts live here, once,
//! on top of any [`Ledger`](crate::ledger::Ledger).
//!
//! [`Sales`] holds a batcher and a view per lane, [`OrderService`] places orders and [`Payments`]
//! talks to providers. [`Maintenance`] runs the background jobs: view renewal, expiry, refunds and
//! transfers. [`Operations`] is for operators, [`AuditRecorder`] writes the audit rows for their
//! ledger changes, and [`Notifier`] reports order events to other systems. [`Timekeeper`] steps the
//! clock and the ledger's deadlines together.

mod advance;
mod error;
mod lane_schedule;
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
mod timekeeper;

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
    Batcher, BatcherError, BatcherMetrics, BatcherOptions, ChangedLanes, LaneFront, RecentBuyers, Sale, Sales,
};
pub use timekeeper::{StepError, Timekeeper};
