//! Dead letters: list, replay, discard.

use std::sync::Arc;

use flashsale_core::{
    domain::Attribution,
    queue::{DeadLetter, JobNumber},
};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Operations, by, method_of,
    request::{Why, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, errors, limit},
    views::Page,
};

#[derive(Serialize)]
struct ShownLetter<'a> {
    id: String,
    topic: &'a str,
    job: &'a str,
    content: Option<&'a RawValue>,
    attempts: u32,
    error: &'a str,
    put_at: Rfc3339,
    parked_at: Rfc3339,
}

impl<'a> From<&'a DeadLetter> for ShownLetter<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        Self {
            id: letter.number.to_string(),
            topic: &letter.topic,
            job: &letter.id,
            content: serde_json::from_str(&letter.content).ok(),
            attempts: letter.attempts,
            error: &letter.error,
            put_at: letter.put_at.into(),
            parked_at: letter.parked_at.into(),
        }
    }
}

impl Operations {
    pub(super) async fn dead_letters(&self, operator: &OperationsToken, head: &Parts) -> Answer {
        method_of(head, "GET, HEAD")?;
        require(operator, &[OperatorRole::Operator, OperatorRole::Auditor])?;
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let limit = limit(&query)?;
        let after = query.parsed::<u64>("after", "the `next` of the previous page")?.map(JobNumber);
        let letters = self.app.operations.dead_letters(after, limit + 1).await;
        let letters = letters.map_err(|error| errors::operation(&error))?;
        let shown = &letters[..letters.len().min(limit)];
        let next = shown.last().filter(|_| letters.len() > limit).map(|last| last.number.to_string());
        let items = shown.iter().map(ShownLetter::from).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn dead_letter(&self, operator: &OperationsToken, number: &str) -> Answer {
        require(operator, &[OperatorRole::Operator, OperatorRole::Auditor])?;
        let letter = self.app.operations.dead_letter(number_of(number)?).await;
        show(letter.map_err(|error| errors::operation(&error))?)
    }

    pub(super) async fn replay_dead_letter(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        body: Body,
    ) -> Answer {
        let (by, number) = self.decision(operator, head, number, body, "replayed by an operator").await?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.replay_dead_letter(number, &author).await };
        show(self.run(work).await?)
    }

    pub(super) async fn discard_dead_letter(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        body: Body,
    ) -> Answer {
        let (by, number) = self.decision(operator, head, number, body, "discarded by an operator").await?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.discard_dead_letter(number, &author).await };
        show(self.run(work).await?)
    }

    /// Reads who decides about which dead letter, and why.
    pub(super) async fn decision(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        body: Body,
        done: &'static str,
    ) -> Result<(Attribution, JobNumber), Problem> {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, done))?;
        Ok((by, number_of(number)?))
    }
}

fn number_of(text: &str) -> Result<JobNumber, Problem> {
    // As with other ids, a malformed one is answered 404.
    text.parse().map(JobNumber).map_err(|_| Problem::not_found())
}

fn show(letter: Option<DeadLetter>) -> Answer {
    let letter = letter.ok_or_else(Problem::not_found)?;
    Ok(no_store(json(StatusCode::OK, &ShownLetter::from(&letter))))
}
