//! Payment callbacks that are kept and not booked: list, replay, discard.

use std::sync::Arc;

use flashsale_core::queue::{DeadLetter, JobNumber};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;

use super::{Operations, method_of, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, json, no_store},
    integrations::callbacks::{Callbacks, SignedReport},
    rfc3339::Rfc3339,
    routes::{Answer, errors, limit},
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
        method_of(head, "GET, HEAD")?;
        require(operator, &[OperatorRole::Operator, OperatorRole::Auditor])?;
        let query = Query::parse(head.uri.query(), &["state", "limit", "after"])?;
        if query.value("state").is_some_and(|state| state != "parked") {
            return Err(Problem::invalid_field("state", "The state is parked."));
        }
        let limit = limit(&query)?;
        let after = query.parsed::<u64>("after", "the `next` of the previous page")?.map(JobNumber);
        let letters = self.app.operations.dead_letters_of(&Callbacks::topic(), after, limit + 1).await;
        let mut letters = letters.map_err(|error| errors::operation(&error))?;
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|last| last.number.to_string());
        let items: Vec<_> = letters.into_iter().map(ShownCallback::from).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn replay_callback(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        body: Body,
    ) -> Answer {
        let (by, number) = self.decision(operator, head, number, body, "replayed by an operator").await?;
        self.parked(number).await?;
        let app = Arc::clone(&self.app);
        let work = async move {
            let replayed = app.operations.replay_dead_letter(number, &by).await;
            app.callbacks.worker().wake();
            replayed
        };
        show(self.run(work).await?)
    }

    pub(super) async fn discard_callback(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        body: Body,
    ) -> Answer {
        let (by, number) = self.decision(operator, head, number, body, "discarded by an operator").await?;
        self.parked(number).await?;
        let app = Arc::clone(&self.app);
        show(self.run(async move { app.operations.discard_dead_letter(number, &by).await }).await?)
    }

    /// Checks that a dead letter is a callback.
    async fn parked(&self, number: JobNumber) -> Result<(), Problem> {
        let letter = self.app.operations.dead_letter(number).await;
        let letter = letter.map_err(|error| errors::operation(&error))?;
        letter.filter(|letter| letter.topic == Callbacks::topic()).map(drop).ok_or_else(Problem::not_found)
    }
}

fn show(letter: Option<DeadLetter>) -> Answer {
    let letter = letter.ok_or_else(Problem::not_found)?;
    Ok(no_store(json(StatusCode::OK, &ShownCallback::from(letter))))
}
