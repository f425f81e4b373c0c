//! The audit trail.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{Name, Text, Timestamp};

/// What was done to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What was done: `product.created`, `activity.changed`, `offer.adjusted`.
    pub action: Name,
    /// To what, in the form of [`Item`](super::Item): `offer/1/11`.
    pub subject: Name,
    /// What is needed to understand it later. For a changed value its new version and, field by field, what it was
    /// and what it is.
    pub detail: Value,
}

/// One change that an operator made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its place in the trail, from 1 and without gaps.
    pub sequence: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Name,
    /// Why.
    pub reason: Text,
    /// What was done.
    #[serde(flatten)]
    pub change: Change,
}

/// What differs between two values, as `{field: {"was": …, "is": …}}` of their top-level fields.
pub(super) fn differences(was: &Value, is: &Value) -> Value {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (was, is) = (fields(was), fields(is));
    let changed = is.iter().filter(|(name, value)| was.get(*name) != Some(value)).map(|(name, value)| {
        let was = was.get(name).cloned().unwrap_or(Value::Null);
        (name.clone(), serde_json::json!({"was": was, "is": value}))
    });
    Value::Object(changed.collect())
}
