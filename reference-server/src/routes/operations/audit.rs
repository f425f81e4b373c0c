//! The audit trail and its verification.

use flashsale_core::catalogue::{AuditCheck, AuditHash, AuditRow};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;

use super::{Operations, method_of, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Query, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, errors, limit},
    views::Page,
};

#[derive(Serialize)]
struct ShownRow<'a> {
    sequence: u64,
    at: Rfc3339,
    actor: &'a str,
    action: &'a str,
    subject: &'a str,
    reason: &'a str,
    detail: &'a serde_json::Value,
    event: Option<&'a str>,
    previous: AuditHash,
    hash: AuditHash,
}

impl<'a> From<&'a AuditRow> for ShownRow<'a> {
    fn from(row: &'a AuditRow) -> Self {
        Self {
            sequence: row.sequence,
            at: row.at.into(),
            actor: &row.actor,
            action: &row.change.action,
            subject: &row.change.subject,
            reason: &row.reason,
            detail: &row.change.detail,
            event: row.event.as_deref(),
            previous: row.previous,
            hash: row.hash,
        }
    }
}

impl Operations {
    pub(super) async fn audit(&self, operator: &OperationsToken, head: &Parts) -> Answer {
        method_of(head, "GET, HEAD")?;
        require(operator, &[OperatorRole::Auditor, OperatorRole::Operator])?;
        let query = Query::parse(head.uri.query(), &["limit", "after"])?;
        let limit = limit(&query)?;
        let after = query.parsed::<u64>("after", "the `next` of the previous page")?.unwrap_or(0);
        let rows = self.app.catalogue.audit(after, limit + 1).await;
        let rows = rows.map_err(|error| errors::catalogue(&error))?;
        let shown = &rows[..rows.len().min(limit)];
        let next = shown.last().filter(|_| rows.len() > limit).map(|last| last.sequence.to_string());
        let items = shown.iter().map(ShownRow::from).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    pub(super) async fn verify_audit(&self, operator: &OperationsToken, head: &Parts) -> Answer {
        method_of(head, "GET, HEAD")?;
        require(operator, &[OperatorRole::Auditor, OperatorRole::Operator])?;
        let check: AuditCheck =
            self.app.catalogue.verify_audit().await.map_err(|error| errors::catalogue(&error))?;
        Ok(no_store(json(StatusCode::OK, &check)))
    }
}
