//! The stored audit trail: appending to it, and verifying it.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, WriteTransaction};
use serde_json::Value;

use super::{
    audit_chain::{self, Chain, Head},
    tables::{AUDIT, AUDIT_HEAD, Bytes, RECORDED, damaged, storage},
};
use crate::{
    catalogue::{AuditBreak, AuditCheck, AuditHash, AuditRow, CatalogueError, Change},
    domain::{Attribution, Name, Timestamp},
};

/// Appends a row to the audit trail and returns its sequence.
pub(super) fn append(
    transaction: &WriteTransaction,
    now: Timestamp,
    by: &Attribution,
    change: Change,
    event: Option<Name>,
) -> Result<u64, CatalogueError> {
    let mut trail = transaction.open_table(AUDIT).map_err(storage)?;
    let mut end = transaction.open_table(AUDIT_HEAD).map_err(storage)?;
    let head = head(&end)?;
    let last = match trail.get(head.sequence).map_err(storage)? {
        Some(stored) => {
            let row =
                audit_chain::decode(stored.value()).map_err(|reason| unreadable(head.sequence, &reason))?;
            row.at
        }
        None => Timestamp::EPOCH,
    };
    let Attribution { actor, reason } = by.clone();
    let mut row = AuditRow {
        sequence: head.sequence + 1,
        at: now.max(last),
        actor,
        reason,
        change,
        event,
        previous: head.hash,
        hash: AuditHash::default(),
    };
    let stored = audit_chain::encode(&mut row).map_err(damaged)?;
    // Overwrites any row that was added by hand after the recorded end.
    trail.insert(row.sequence, stored.as_slice()).map_err(storage)?;
    let head = Head { sequence: row.sequence, hash: row.hash };
    end.insert((), head.to_bytes().as_slice()).map_err(storage)?;
    Ok(row.sequence)
}

/// Reads the recorded last row of the trail.
fn head(end: &impl ReadableTable<(), Bytes>) -> Result<Head, CatalogueError> {
    match end.get(()).map_err(storage)? {
        Some(bytes) => Head::from_bytes(bytes.value())
            .ok_or_else(|| CatalogueError::Damaged("the end of the audit trail cannot be read".into())),
        None => Ok(Head::default()),
    }
}

/// Verifies the whole trail against its recorded end and the table of recorded events.
pub(super) fn verify(reading: &ReadTransaction) -> Result<AuditCheck, CatalogueError> {
    let mut chain = Chain::default();
    let recorded = reading.open_table(RECORDED).map_err(storage)?;
    let mut events = 0;
    for row in reading.open_table(AUDIT).map_err(storage)?.iter().map_err(storage)? {
        let (key, stored) = row.map_err(storage)?;
        let Some(row) = chain.follow(key.value(), stored.value()) else { continue };
        let Some(event) = row.event else { continue };
        events += 1;
        let expected = recorded.get(event.as_str()).map_err(storage)?.map(|sequence| sequence.value());
        if expected != Some(key.value()) {
            chain.record_break(key.value(), format!("has event {event:?}, recorded for row {expected:?}"));
        }
    }
    let mut check = chain.end(head(&reading.open_table(AUDIT_HEAD).map_err(storage)?)?);
    if check.broken.is_none() && events != recorded.len().map_err(storage)? {
        let reason = "or an earlier row is missing: a recorded event has no row".to_owned();
        check.broken = Some(AuditBreak { sequence: check.rows, reason });
    }
    Ok(check)
}

pub(super) fn change(action: &str, subject: &str, detail: Value) -> Result<Change, CatalogueError> {
    match (action.parse(), subject.parse()) {
        (Ok(action), Ok(subject)) => Ok(Change { action, subject, detail }),
        _ => Err(CatalogueError::Damaged(format!("{action:?} or {subject:?} is not a valid name"))),
    }
}

pub(super) fn unreadable(sequence: u64, reason: &str) -> CatalogueError {
    CatalogueError::Damaged(format!("row {sequence} of the audit trail was changed: {reason}"))
}
