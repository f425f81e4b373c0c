//! Small values that calls take and return.

use std::sync::Arc;

use crate::domain::OrderKey;

/// Whether [`LedgerCalls::open`](super::LedgerCalls::open) opened the activity or found it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Opened by this call.
    Now,
    /// Already open with the same terms.
    Before,
}

/// The outcome of [`LedgerCalls::keep_unmatched`](super::LedgerCalls::keep_unmatched).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The capture is kept.
    Kept,
    /// The payment is known; advance this order instead.
    Known(OrderKey),
}

/// The name of a reader of outboxes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Consumer(pub Arc<str>);

impl Consumer {
    /// Creates a consumer name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}
