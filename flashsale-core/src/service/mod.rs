//! Services: what applications call. Validation, retries and the shortcuts of the hot path live here, once, above
//! whatever [`Ledger`](crate::ledger::Ledger) is underneath.
//!
//! [`Sales`] holds a queue and a view for each lane; [`Ordering`] takes orders; [`Payments`] talks to providers;
//! [`Upkeep`] does what nobody asks for: views, expiry, refunds, transfers. [`Operations`] is what operators do,
//! [`Recorder`] gives what they change in the ledger its audit rows, and [`Notifier`] tells other systems what happens to
//! orders.

mod collect;
mod notifications;
mod operations;
mod ordering;
mod outbox;
mod payments;
mod recorder;
mod refunds;
mod sales;
#[cfg(test)]
mod tests;
mod upkeep;

pub use notifications::{EventSink, Notification, NotificationKind, Notifier, NotifyError, SinkError};
pub use operations::{ActivityEdit, ActivityStep, NewActivity, OperationError, Operations};
pub use ordering::{OrderRequest, Ordering, Placement, ServiceError};
pub use payments::{CaptureResult, Closed, OpenedPayment, PaymentProvider, Payments, ProviderError};
pub use recorder::{RecordError, Recorder};
pub use refunds::RefundError;
pub use sales::{Front, Sale, Sales};
pub use upkeep::Upkeep;
