//! What the bodies of operators' requests have in common.

use flashsale_core::domain::Text;
use hyper::http::request::Parts;
use serde::{Deserialize, Deserializer};

use crate::http::{Body, Problem};

/// A body that says at most why.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default, deserialize_with = "present")]
    pub(super) reason: Option<Text>,
}

impl Why {
    /// Reads a body that may be missing.
    pub(super) async fn read(head: &Parts, body: Body) -> Result<Self, Problem> {
        if body.is_empty() { Ok(Self::default()) } else { body.json(&head.headers).await }
    }
}

/// The reason that was given, or what was done if none was.
pub(super) fn reason(given: Option<Text>, done: &'static str) -> Text {
    given.unwrap_or_else(|| done.parse().expect("the words for what is done are texts"))
}

/// A field that is there, so that `null` is a value of its own or refused, and not the same as a missing field.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
