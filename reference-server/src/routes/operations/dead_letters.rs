//! Dead letters: list, replay, discard.

use std::sync::Arc;

use flashsale_core::queue::{DeadLetter, JobNumber, Topic};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Operations, by, method_of,
    request::{Decision, Why, reason},
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
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (letters, next) = self.parked(operator, head, &query, None).await?;
        let items = letters.iter().map(ShownLetter::from).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn dead_letter(&self, operator: &OperationsToken, number: &str) -> Answer {
        require(operator, &[OperatorRole::Operator, OperatorRole::Auditor])?;
        let letter = self.app.operations.dead_letter(number_of(number)?).await;
        show(letter.map_err(|error| errors::operation(&error))?)
    }

    pub(super) async fn resolve_dead_letter(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        decision: Decision,
        body: Body,
    ) -> Answer {
        show(self.resolve(operator, head, number, decision, body, None).await?)
    }

    /// Reads a page of parked jobs, of one topic or of all, and where the next one begins.
    pub(super) async fn parked(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        query: &Query<'_>,
        topic: Option<&Topic>,
    ) -> Result<(Vec<DeadLetter>, Option<String>), Problem> {
        method_of(head, "GET, HEAD")?;
        require(operator, &[OperatorRole::Operator, OperatorRole::Auditor])?;
        let limit = limit(query)?;
        let after = query.parsed::<u64>("after", "the `next` of the previous page")?.map(JobNumber);
        let letters = match topic {
            Some(topic) => self.app.operations.dead_letters_of(topic, after, limit + 1).await,
            None => self.app.operations.dead_letters(after, limit + 1).await,
        };
        let mut letters = letters.map_err(|error| errors::operation(&error))?;
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|last| last.number.to_string());
        Ok((letters, next))
    }

    /// Carries out an operator's decision on a parked job. One of another topic is not found.
    pub(super) async fn resolve(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        number: &str,
        decision: Decision,
        body: Body,
        topic: Option<&Topic>,
    ) -> Result<Option<DeadLetter>, Problem> {
        method_of(head, "POST")?;
        require(operator, &[OperatorRole::Operator])?;
        let done = match decision {
            Decision::Replay => "replayed by an operator",
            Decision::Discard => "discarded by an operator",
        };
        let by = by(operator, reason(Why::read(head, body).await?.reason, done))?;
        let number = number_of(number)?;
        let letter =
            self.app.operations.dead_letter(number).await.map_err(|error| errors::operation(&error))?;
        if letter.is_some_and(|letter| topic.is_some_and(|topic| letter.topic != *topic)) {
            return Err(Problem::not_found());
        }
        let app = Arc::clone(&self.app);
        let work = async move {
            match decision {
                Decision::Replay => app.operations.replay_dead_letter(number, &by).await,
                Decision::Discard => app.operations.discard_dead_letter(number, &by).await,
            }
        };
        self.run(work).await
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
