//! Parts that the request bodies of operators share.

use flashsale_core::domain::Text;
use hyper::http::request::Parts;
use serde::{Deserialize, Deserializer};

use crate::http::{Body, Problem};

/// What an operator decides about a parked job.
#[derive(Clone, Copy)]
pub(super) enum Decision {
    /// It is tried again.
    Replay,
    /// It is abandoned.
    Discard,
}

/// A body with an optional reason.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default, deserialize_with = "present")]
    pub(super) reason: Option<Text>,
}

impl Why {
    /// Reads the body; an empty one has no reason.
    pub(super) async fn read(head: &Parts, body: Body) -> Result<Self, Problem> {
        if body.is_empty() { Ok(Self::default()) } else { body.json(&head.headers).await }
    }
}

/// Returns the given reason, or else `done`, a description of the action.
pub(super) fn reason(given: Option<Text>, done: &'static str) -> Text {
    given.unwrap_or_else(|| done.parse().expect("default reasons are valid texts"))
}

/// Deserializes a field that is present, so that `null` is not taken for a missing field.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
