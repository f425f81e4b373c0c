//! Payment callbacks that are kept and not booked: list, replay, discard.

use flashsale_core::queue::DeadLetter;
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;

use super::{Operations, request::Decision};
use crate::{
    config::OperationsToken,
    http::{Body, Problem, Query, json, no_store},
    integrations::callbacks::{Callbacks, SignedReport},
    rfc3339::Rfc3339,
    routes::Answer,
    views::Page,
};

#[derive(Serialize)]
struct ShownCallback {
    id: String,
    state: &'static str,
    provider: String,
    reason: String,
    received_at: Rfc3339,
    parked_at: Rfc3339,
    /// The raw body, with replacement characters where it is not UTF-8.
    body: String,
}

impl From<DeadLetter> for ShownCallback {
    fn from(letter: DeadLetter) -> Self {
        let report = serde_json::from_str::<SignedReport>(&letter.content).ok();
        Self {
            id: letter.number.to_string(),
            state: "parked",
            provider: report.as_ref().map(|report| report.provider.to_string()).unwrap_or_default(),
            reason: letter.error,
            received_at: letter.put_at.into(),
            parked_at: letter.parked_at.into(),
            body: report
                .map(|report| String::from_utf8_lossy(&report.body()).into_owned())
                .unwrap_or_default(),
        }
    }
}

impl Operations {
    pub(super) async fn callbacks(&self, operator: &OperationsToken, head: &Parts) -> Answer {
        let query = Query::parse(head.uri.query(), &["state", "limit", "after"])?;
        if query.value("state").is_some_and(|state| state != "parked") {
            return Err(Problem::invalid_field("state", "The state is parked."));
        }
        let (letters, next) = self.parked(operator, head, &query, Some(&Callbacks::topic())).await?;
        let items: Vec<_> = letters.into_iter().map(ShownCallback::from).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn resolve_callback(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        decision: Decision,
        body: Body,
    ) -> Answer {
        let letter = self.resolve(operator, head, number, decision, body, Some(&Callbacks::topic())).await?;
        self.app.callbacks.worker().wake();
        let letter = letter.ok_or_else(Problem::not_found)?;
        Ok(no_store(json(StatusCode::OK, &ShownCallback::from(letter))))
    }
}
