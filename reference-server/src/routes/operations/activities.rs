//! Activities: create, edit, and the steps of their life cycle.

use std::sync::Arc;

use flashsale_core::{
    catalogue::Versioned,
    domain::{
        Activity, ActivityId, ActivityStatus, Buckets, Name, OfferTerms, Phase, Selling, Text, Timestamp,
        Window,
    },
    service::{ActivityEdit, ActivityStep, NewActivity, OperationError},
};
use hyper::{Method, StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{
    Operations, Seen, by,
    catalogue::created,
    method_of,
    precondition::{if_match, versioned},
    request::{Why, present, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, Response, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, after, errors, limit},
    views::Page,
};

/// The largest body of an activity with all its offers: 1 MiB.
pub(super) const ACTIVITY_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivityRequest {
    #[serde(default, deserialize_with = "present")]
    id: Option<ActivityId>,
    name: Name,
    #[serde(default)]
    description: Option<Text>,
    starts_at: Rfc3339,
    ends_at: Rfc3339,
    #[serde(default)]
    buckets: Buckets,
    #[serde(default)]
    offers: Vec<OfferTerms>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditRequest {
    #[serde(default, deserialize_with = "present")]
    name: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<Text>>,
    #[serde(default, deserialize_with = "present")]
    starts_at: Option<Rfc3339>,
    #[serde(default, deserialize_with = "present")]
    ends_at: Option<Rfc3339>,
    #[serde(default, deserialize_with = "present")]
    buckets: Option<Buckets>,
    #[serde(default, deserialize_with = "present")]
    offers: Option<Vec<OfferTerms>>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<Text>,
}

/// An activity as operators see it.
#[derive(Serialize)]
pub(super) struct ShownActivity<'a> {
    id: ActivityId,
    version: u64,
    name: &'a Name,
    description: Option<&'a Text>,
    starts_at: Rfc3339,
    ends_at: Rfc3339,
    creator: &'a Name,
    reviewer: Option<&'a Name>,
    status: ActivityStatus,
    /// Only for a published activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    buckets: Buckets,
    offers: &'a [OfferTerms],
}

impl<'a> ShownActivity<'a> {
    pub(super) fn of(activity: &'a Versioned<Activity>, now: Timestamp) -> Self {
        let Versioned { version, value: activity } = activity;
        Self {
            id: activity.id,
            version: *version,
            name: &activity.name,
            description: activity.description.as_ref(),
            starts_at: activity.window.starts_at().into(),
            ends_at: activity.window.ends_at().into(),
            creator: &activity.creator,
            reviewer: activity.reviewer.as_ref(),
            status: activity.status,
            phase: (activity.status == ActivityStatus::Published).then(|| phase(activity, now)),
            buckets: activity.buckets,
            offers: &activity.offers,
        }
    }
}

fn phase(activity: &Activity, now: Timestamp) -> Phase {
    match activity.selling {
        Selling::Ended => Phase::Ended,
        _ if now >= activity.window.ends_at() => Phase::Ended,
        Selling::Paused => Phase::Paused,
        Selling::On if now < activity.window.starts_at() => Phase::Upcoming,
        Selling::On => Phase::Live,
    }
}

/// Returns the step named in a path, the role that may take it, and the default reason.
fn step(name: &str) -> Option<(ActivityStep, OperatorRole, &'static str)> {
    Some(match name {
        "submit" => (ActivityStep::Submit, OperatorRole::Creator, "submitted"),
        "approve" => (ActivityStep::Approve, OperatorRole::Reviewer, "approved"),
        "reject" => (ActivityStep::Reject, OperatorRole::Reviewer, "rejected"),
        "publish" => (ActivityStep::Publish, OperatorRole::Operator, "published"),
        "pause" => (ActivityStep::Pause, OperatorRole::Operator, "paused"),
        "resume" => (ActivityStep::Resume, OperatorRole::Operator, "resumed"),
        "end" => (ActivityStep::End, OperatorRole::Operator, "ended"),
        "archive" => (ActivityStep::Archive, OperatorRole::Operator, "archived"),
        _ => return None,
    })
}

impl Operations {
    pub(super) async fn activities(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        if method_of(head, "GET, HEAD, POST")? == Method::POST {
            return self.create_activity(operator, head, body).await;
        }
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let activities = self.app.catalogue.activities(after, limit + 1).await;
        let activities = activities.map_err(|error| errors::catalogue(&error))?;
        let (shown, now) = (&activities[..activities.len().min(limit)], self.app.clock.now());
        let next = shown.last().filter(|_| activities.len() > limit).map(|last| last.value.id.to_string());
        let items = shown.iter().map(|activity| ShownActivity::of(activity, now)).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn activity(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
        body: Body,
    ) -> Answer {
        if method_of(head, "GET, HEAD, PATCH")? == Method::PATCH {
            return self.edit_activity(operator, head, id, body).await;
        }
        Ok(self.show(&self.present(id).await?))
    }

    async fn create_activity(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Creator])?;
        let request: ActivityRequest = body.with_max_bytes(ACTIVITY_BYTES).json(&head.headers).await?;
        let by = by(operator, reason(request.reason, "activity created"))?;
        let new = NewActivity {
            id: request.id,
            name: request.name,
            description: request.description,
            window: Window::new(request.starts_at.0, request.ends_at.0)?,
            buckets: request.buckets,
            offers: request.offers,
        };
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.create_activity(new, &author).await };
        let written = self.run(work).await?;
        let location = format!("/v1/activities/{}", written.value.id);
        Ok(created(written.version, &location, &ShownActivity::of(&written, self.app.clock.now())))
    }

    async fn edit_activity(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
        body: Body,
    ) -> Answer {
        let expected = self.may_edit(operator, head, id).await?;
        let request: EditRequest = body.with_max_bytes(ACTIVITY_BYTES).json(&head.headers).await?;
        let by = by(operator, reason(request.reason, "activity changed"))?;
        let edit = ActivityEdit {
            name: request.name,
            description: request.description,
            starts_at: request.starts_at.map(|moment| moment.0),
            ends_at: request.ends_at.map(|moment| moment.0),
            buckets: request.buckets,
            offers: request.offers,
        };
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.edit_activity(id, Some(expected), &edit, &author).await };
        self.change(work).await
    }

    pub(super) async fn step(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
        name: &str,
        body: Body,
    ) -> Answer {
        let (step, role, done) = step(name).ok_or_else(Problem::not_found)?;
        method_of(head, "POST")?;
        require(operator, &[role])?;
        let expected = if_match(&head.headers)?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, done))?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.step(id, expected, step, &author).await };
        match step {
            // Buyers see these steps in the status document; no page has to be rendered again.
            ActivityStep::Pause | ActivityStep::Resume | ActivityStep::End => {
                Ok(self.show(&self.run(work).await?))
            }
            _ => self.change(work).await,
        }
    }

    /// Returns the version to edit: that of `If-Match`, or else the current one. Drafts are edited
    /// by creators, later states by operators.
    pub(super) async fn may_edit(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
    ) -> Result<u64, Problem> {
        let expected = if_match(&head.headers)?;
        let present = self.present(id).await?;
        let is_draft = present.value.status == ActivityStatus::Draft;
        require(operator, if is_draft { &[OperatorRole::Creator] } else { &[OperatorRole::Operator] })?;
        // The role was checked for the present version, so a change in between must be a conflict.
        Ok(expected.unwrap_or(present.version))
    }

    /// Changes an activity, updates the pages if buyers can see it, and answers with it.
    pub(super) async fn change(
        &self,
        work: impl Future<Output = Result<Versioned<Activity>, OperationError>> + Send + 'static,
    ) -> Answer {
        let seen = |written: &Versioned<Activity>| match written.value.status {
            ActivityStatus::Published | ActivityStatus::Archived => Seen::Activity(written.value.id),
            ActivityStatus::Draft | ActivityStatus::Submitted | ActivityStatus::Approved => Seen::Nowhere,
        };
        let written = self.run_and_show(work, seen).await?;
        Ok(self.show(&written))
    }

    fn show(&self, activity: &Versioned<Activity>) -> Response {
        let shown = ShownActivity::of(activity, self.app.clock.now());
        versioned(StatusCode::OK, activity.version, &shown)
    }

    async fn present(&self, id: ActivityId) -> Result<Versioned<Activity>, Problem> {
        let activity = self.app.catalogue.activity(id).await.map_err(|error| errors::catalogue(&error))?;
        activity.ok_or_else(Problem::not_found)
    }
}
