//! The file format, and the upgrade from older ones.

use std::{collections::HashMap, path::Path};

use redb::{Database, ReadTransaction, ReadableTable as _, WriteTransaction};
use serde_json::json;

use super::{
    audit_chain::{self, Head},
    tables::{
        ACTIVITIES, AUDIT, AUDIT_HEAD, CACHE_BYTES, KILL_SWITCH, PRODUCTS, RECORDED, SKUS, SKUS_OF_PRODUCT,
        damaged, storage,
    },
    trail::{append, change},
};
use crate::{
    catalogue::{AuditHash, AuditRow, CatalogueError},
    domain::{Attribution, Clock},
    embedded::file::{self, META},
};

/// The format that this version writes. Higher ones are refused. Format 1 had no hashes in the
/// audit trail and no kill switch.
const FORMAT: u64 = 2;

/// Checks the format. Creates the tables of an empty file; upgrades an older format.
///
/// # Errors
/// `Newer`, `Damaged`, or storage errors. The file is then left as it was.
pub(super) fn prepare(database: &Database, clock: &dyn Clock) -> Result<(), CatalogueError> {
    match file::format_of(database, "catalogue")? {
        Some(found) if found > FORMAT => Err(CatalogueError::Newer { found, supported: FORMAT }),
        None => write(database, |_| Ok(())),
        Some(1) => write(database, |transaction| chain(transaction, clock)),
        Some(_) => Ok(()),
    }
}

/// Creates missing tables, writes the format number, and runs `change`, all in one transaction.
fn write(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), CatalogueError>,
) -> Result<(), CatalogueError> {
    let transaction = database.begin_write().map_err(storage)?;
    transaction.open_table(META).map_err(storage)?.insert(file::FORMAT, FORMAT).map_err(storage)?;
    for table in [PRODUCTS, SKUS, ACTIVITIES, AUDIT] {
        transaction.open_table(table).map_err(storage)?;
    }
    for table in [AUDIT_HEAD, KILL_SWITCH] {
        transaction.open_table(table).map_err(storage)?;
    }
    transaction.open_table(SKUS_OF_PRODUCT).map_err(storage)?;
    transaction.open_table(RECORDED).map_err(storage)?;
    change(&transaction)?;
    transaction.commit().map_err(storage)
}

/// Hashes the rows of a trail without hashes, and appends a row that says so.
fn chain(transaction: &WriteTransaction, clock: &dyn Clock) -> Result<(), CatalogueError> {
    let mut trail = transaction.open_table(AUDIT).map_err(storage)?;
    let mut events = HashMap::new();
    for entry in transaction.open_table(RECORDED).map_err(storage)?.iter().map_err(storage)? {
        let (event, sequence) = entry.map_err(storage)?;
        let event =
            event.value().parse().map_err(|_| CatalogueError::Damaged("invalid event name".into()))?;
        events.insert(sequence.value(), event);
    }
    let (mut rows, mut head) = (Vec::new(), Head::default());
    for entry in trail.iter().map_err(storage)? {
        let mut row: AuditRow = serde_json::from_slice(entry.map_err(storage)?.1.value()).map_err(damaged)?;
        row.event = events.remove(&row.sequence);
        (row.previous, row.hash) = (head.hash, AuditHash::default());
        let stored = audit_chain::encode(&mut row).map_err(damaged)?;
        head = Head { sequence: row.sequence, hash: row.hash };
        rows.push((row.sequence, stored));
    }
    for (sequence, stored) in &rows {
        trail.insert(*sequence, stored.as_slice()).map_err(storage)?;
    }
    drop(trail);
    if rows.is_empty() {
        return Ok(());
    }
    let mut end = transaction.open_table(AUDIT_HEAD).map_err(storage)?;
    end.insert((), head.to_bytes().as_slice()).map_err(storage)?;
    drop(end);
    let by = Attribution {
        actor: "server".parse().expect("the name is valid"),
        reason: "rows before this one were written without hashes".parse().expect("the text is valid"),
    };
    let change = change("audit.chained", "audit", json!({"rows": rows.len()}))?;
    append(transaction, clock.now(), &by, change, None).map(drop)
}

/// Copies all tables into a new file.
pub(super) fn copy_all(from: &ReadTransaction, path: &Path) -> Result<(), CatalogueError> {
    let copy = file::create(path, CACHE_BYTES)?;
    let to = copy.begin_write().map_err(storage)?;
    file::copy_table(META, from, &to)?;
    for table in [PRODUCTS, SKUS, ACTIVITIES, AUDIT] {
        file::copy_table(table, from, &to)?;
    }
    for table in [AUDIT_HEAD, KILL_SWITCH] {
        file::copy_table(table, from, &to)?;
    }
    file::copy_table(SKUS_OF_PRODUCT, from, &to)?;
    file::copy_table(RECORDED, from, &to)?;
    to.commit().map_err(storage)
}
