//! Writes the changes of one step.

use flashsale_core::{
    domain::{Order, UserId},
    ledger::{
        Lane,
        rows::{Changes, OrderRow, RowKey, Units},
    },
};
use sqlx::{MySql, Transaction};

use super::{damaged, name::name_of, order_columns};
use crate::{
    error::{Failure, commit_failed},
    statement::{parts, repeated},
};

/// Writes the changes and commits, if the lane has the version that they were decided on.
pub(super) async fn commit(
    mut transaction: Transaction<'static, MySql>,
    lane: Lane,
    changes: &Changes,
    orders: &[Order],
) -> Result<bool, Failure> {
    let is_current = take(&mut transaction, lane, changes).await?;
    if !is_current {
        transaction.rollback().await?;
        return Ok(false);
    }
    if changes.clear {
        clear(&mut transaction, lane).await?;
    }
    write_rows(&mut transaction, lane, changes).await?;
    write_orders(&mut transaction, lane, &changes.orders, orders).await?;
    write_entries(&mut transaction, lane, changes).await?;
    transaction.commit().await.map_err(commit_failed)?;
    Ok(true)
}

/// Compares and sets the version of the lane, and so locks it until the end of the transaction.
async fn take(
    transaction: &mut Transaction<'static, MySql>,
    lane: Lane,
    changes: &Changes,
) -> Result<bool, Failure> {
    let query = if changes.version == 0 {
        sqlx::query(include_str!("../../sql/lane_create.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .bind(changes.next)
    } else {
        sqlx::query(include_str!("../../sql/lane_advance.sql"))
            .bind(changes.next)
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .bind(changes.version)
    };
    Ok(query.execute(&mut **transaction).await?.rows_affected() == 1)
}

async fn clear(transaction: &mut Transaction<'static, MySql>, lane: Lane) -> Result<(), Failure> {
    for statement in [
        include_str!("../../sql/rows_clear.sql"),
        include_str!("../../sql/units_clear.sql"),
        include_str!("../../sql/orders_clear.sql"),
        include_str!("../../sql/outbox_clear.sql"),
    ] {
        let query = sqlx::query(statement).bind(lane.activity.value()).bind(lane.bucket);
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn write_rows(
    transaction: &mut Transaction<'static, MySql>,
    lane: Lane,
    changes: &Changes,
) -> Result<(), Failure> {
    let (mut units, mut written, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in &changes.rows {
        match (key, value) {
            (RowKey::Units(sku), Some(value)) => {
                units.push((*sku, Units::of_bytes(value).ok_or_else(|| damaged("the units of an offer"))?));
            }
            (RowKey::Units(_), None) => return Err(damaged("the list of offers")),
            (key, Some(value)) => written.push((name_of(key), value)),
            (key, None) => removed.push(name_of(key)),
        }
    }
    for part in parts(&units) {
        let mut query = sqlx::query(repeated(include_str!("../../sql/units_write.sql"), part.len()));
        for (sku, Units { share, adjusted, sent, received, available, held, sold, pending }) in part {
            query = query.bind(lane.activity.value()).bind(lane.bucket).bind(sku.value());
            for number in [share, adjusted, sent, received, available, held, sold, pending] {
                query = query.bind(*number);
            }
        }
        query.execute(&mut **transaction).await?;
    }
    for part in parts(&written) {
        let mut query = sqlx::query(repeated(include_str!("../../sql/rows_write.sql"), part.len()));
        for (name, value) in part {
            query = query.bind(lane.activity.value()).bind(lane.bucket).bind(name).bind(*value);
        }
        query.execute(&mut **transaction).await?;
    }
    for part in parts(&removed) {
        let mut query = sqlx::query(repeated(include_str!("../../sql/rows_remove.sql"), part.len()))
            .bind(lane.activity.value())
            .bind(lane.bucket);
        for name in part {
            query = query.bind(name);
        }
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn write_orders(
    transaction: &mut Transaction<'static, MySql>,
    lane: Lane,
    rows: &[(UserId, OrderRow)],
    orders: &[Order],
) -> Result<(), Failure> {
    for (rows, orders) in parts(rows).zip(parts(orders)) {
        let mut query = sqlx::query(repeated(include_str!("../../sql/orders_write.sql"), rows.len()));
        for ((_, row), order) in rows.iter().zip(orders) {
            query = order_columns::bind(query, lane, row, order);
        }
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn write_entries(
    transaction: &mut Transaction<'static, MySql>,
    lane: Lane,
    changes: &Changes,
) -> Result<(), Failure> {
    for part in parts(&changes.entries) {
        let mut query = sqlx::query(repeated(include_str!("../../sql/outbox_write.sql"), part.len()));
        for (sequence, entry) in part {
            query = query.bind(lane.activity.value()).bind(lane.bucket).bind(*sequence).bind(entry);
        }
        query.execute(&mut **transaction).await?;
    }
    if let Some(first) = changes.trim {
        sqlx::query(include_str!("../../sql/outbox_trim.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .bind(first)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
