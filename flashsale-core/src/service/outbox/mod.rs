//! Readers of the ledger's outbox: the audit recorder, and notifications for other systems.

mod audit_recorder;
mod notifier;
mod reader;

pub use audit_recorder::{AuditRecorder, RecordError};
pub use notifier::{EventSink, Notification, NotificationKind, Notifier, NotifyError, SinkError};
