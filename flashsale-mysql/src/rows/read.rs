//! Reads excerpts. All statements of a transaction see the moment of the first one.

use std::collections::{BTreeSet, HashMap};

use flashsale_core::{
    domain::UserId,
    ledger::{
        Lane,
        rows::{Excerpt, Needs, OrderRow, RowKey, Units},
    },
};
use sqlx::MySqlConnection;

use super::{
    damaged,
    name::name_of,
    order_columns::{self, Columns},
};
use crate::{
    error::Failure,
    statement::{MAX_REPEATED, repeated},
};

/// The columns of `units_read.sql`.
type UnitsColumns = (u64, i64, i64, i64, i64, i64, i64, i64, i64);

/// Reads what a step needs.
pub(super) async fn excerpt(
    connection: &mut MySqlConnection,
    lane: Lane,
    needs: &Needs,
) -> Result<Excerpt, Failure> {
    let version: Option<u64> = sqlx::query_scalar(include_str!("../../sql/lane_version.sql"))
        .bind(lane.activity.value())
        .bind(lane.bucket)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(version) = version else { return Ok(Excerpt::default()) };
    let mut excerpt = Excerpt { version, ..Excerpt::default() };
    read_rows(connection, lane, needs, &mut excerpt).await?;
    read_orders(connection, lane, needs, &mut excerpt).await?;
    excerpt.orders.values_mut().for_each(|orders| orders.sort_by_key(|row| row.number));
    if let Some(sequence) = needs.entry {
        excerpt.entry = sqlx::query_scalar(include_str!("../../sql/outbox_entry.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .bind(sequence)
            .fetch_optional(&mut *connection)
            .await?;
    }
    Ok(excerpt)
}

async fn read_rows(
    connection: &mut MySqlConnection,
    lane: Lane,
    needs: &Needs,
    excerpt: &mut Excerpt,
) -> Result<(), Failure> {
    if needs.keys.iter().any(|key| matches!(key, RowKey::Units(_))) {
        let rows: Vec<UnitsColumns> = sqlx::query_as(include_str!("../../sql/units_read.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .fetch_all(&mut *connection)
            .await?;
        for (sku, share, adjusted, sent, received, available, held, sold, pending) in rows {
            let sku = sku.try_into().map_err(|_| damaged("the SKU of an offer"))?;
            let units = Units { share, adjusted, sent, received, available, held, sold, pending };
            if needs.keys.contains(&RowKey::Units(sku)) {
                excerpt.rows.insert(RowKey::Units(sku), units.to_bytes().to_vec());
            }
        }
    }
    let named = needs.keys.iter().filter(|key| !matches!(key, RowKey::Units(_)));
    let mut named: HashMap<Vec<u8>, RowKey> = named.map(|key| (name_of(key), key.clone())).collect();
    let names: Vec<_> = named.keys().cloned().collect();
    for part in names.chunks(MAX_REPEATED) {
        let padded = part.len().next_power_of_two();
        let mut query = sqlx::query_as(repeated(include_str!("../../sql/rows_read.sql"), padded))
            .bind(lane.activity.value())
            .bind(lane.bucket);
        for name in part.iter().chain(std::iter::repeat(&part[0])).take(padded) {
            query = query.bind(name);
        }
        let rows: Vec<(Vec<u8>, Vec<u8>)> = query.fetch_all(&mut *connection).await?;
        for (name, value) in rows {
            let key = named.remove(&name).ok_or_else(|| damaged("the name of a row"))?;
            excerpt.rows.insert(key, value);
        }
    }
    Ok(())
}

async fn read_orders(
    connection: &mut MySqlConnection,
    lane: Lane,
    needs: &Needs,
    excerpt: &mut Excerpt,
) -> Result<(), Failure> {
    if needs.all_buyers {
        let rows = sqlx::query_as(include_str!("../../sql/orders_of_all.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .fetch_all(&mut *connection)
            .await?;
        return add(excerpt, rows);
    }
    let mut buyers: BTreeSet<u64> = needs.buyers.iter().map(|user| user.value()).collect();
    if needs.due > 0 {
        let due: Vec<u64> = sqlx::query_scalar(include_str!("../../sql/orders_due.sql"))
            .bind(lane.activity.value())
            .bind(lane.bucket)
            .bind(needs.due as u64)
            .fetch_all(&mut *connection)
            .await?;
        buyers.extend(due);
    }
    let buyers: Vec<_> = buyers.into_iter().collect();
    for part in buyers.chunks(MAX_REPEATED) {
        let padded = part.len().next_power_of_two();
        let mut query = sqlx::query_as(repeated(include_str!("../../sql/orders_of_buyers.sql"), padded))
            .bind(lane.activity.value())
            .bind(lane.bucket);
        for user in part.iter().chain(std::iter::repeat(&part[0])).take(padded) {
            query = query.bind(*user);
        }
        let rows = query.fetch_all(&mut *connection).await?;
        add(excerpt, rows)?;
    }
    Ok(())
}

fn add(excerpt: &mut Excerpt, rows: Vec<Columns>) -> Result<(), Failure> {
    for row in rows {
        let (user, row) = order_columns::read(row)?;
        excerpt.orders.entry(user).or_default().push(row);
    }
    Ok(())
}

/// Reads a page of orders.
pub(super) async fn orders(
    connection: &mut MySqlConnection,
    lane: Lane,
    owed: bool,
    after: u64,
    limit: usize,
) -> Result<Vec<(UserId, OrderRow)>, Failure> {
    let statement = match owed {
        false => include_str!("../../sql/orders_page.sql"),
        true => include_str!("../../sql/orders_owed.sql"),
    };
    let rows: Vec<Columns> = sqlx::query_as(statement)
        .bind(lane.activity.value())
        .bind(lane.bucket)
        .bind(after)
        .bind(limit as u64)
        .fetch_all(&mut *connection)
        .await?;
    rows.into_iter().map(|row| Ok(order_columns::read(row)?)).collect()
}
