//! The store of rows.

mod name;
mod order_columns;
mod read;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use flashsale_core::{
    domain::{ActivityId, OrderId, UserId},
    ledger::{
        AdjustmentId, Bounds, Lane, LedgerError,
        rows::{Changes, Excerpt, Needs, OrderRow, Rows},
    },
};

use crate::{Database, error::Failure};

/// The most items of one batch. A transaction with so many orders takes some tens of milliseconds.
const MAX_BATCH: usize = 2_000;

/// A store of rows in MySQL or MariaDB, for ledgers that decide everything and for truths.
///
/// A commit writes the changes of one batch in one transaction. Its first statement compares and sets the
/// version of the lane, so of two commits that were decided on the same rows, one has no effect. The version is
/// random and never comes back; after a lost reply to COMMIT, it tells whether the commit was taken.
///
/// A gate may have less than no units for a moment, which a CHECK of the table `offer_units` refuses; keep
/// gates in another store.
#[derive(Debug)]
pub struct MySqlRows {
    database: Database,
}

impl MySqlRows {
    /// Keeps rows in a database whose schema is [up to date](Database::migrate).
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Rows for MySqlRows {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: MAX_BATCH, max_in_flight: 1, is_shared: true, key_retention: None }
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
        let needs = Arc::new(needs.clone());
        self.database
            .read(move |mut transaction| {
                let needs = Arc::clone(&needs);
                async move { read::excerpt(&mut transaction, lane, &needs).await }
            })
            .await
    }

    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError> {
        // Before the lane is locked.
        let orders = changes.orders.iter().map(|(_, row)| order_columns::order_of(row));
        let orders = orders.collect::<Result<Vec<_>, _>>()?;
        let changes = Arc::new((changes.clone(), orders));
        self.database
            .write(move |transaction| {
                let changes = Arc::clone(&changes);
                async move { write::commit(transaction, lane, &changes.0, &changes.1).await }
            })
            .await
    }

    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError> {
        self.database
            .read(move |mut transaction| async move {
                read::orders(&mut transaction, lane, owed, after, limit).await
            })
            .await
    }

    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.database
            .read(move |mut transaction| async move {
                let page = sqlx::query_scalar(include_str!("../../sql/outbox_page.sql"))
                    .bind(lane.activity.value())
                    .bind(lane.bucket)
                    .bind(from)
                    .bind(limit as u64);
                Ok(page.fetch_all(&mut *transaction).await?)
            })
            .await
    }

    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError> {
        self.database
            .read(move |mut transaction| async move {
                let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(include_str!("../../sql/adjustments.sql"))
                    .bind(lane.activity.value())
                    .bind(lane.bucket)
                    .fetch_all(&mut *transaction)
                    .await?;
                let read = |(name, value): (Vec<u8>, Vec<u8>)| {
                    let id =
                        name::adjustment_of(&name).ok_or_else(|| damaged("the name of an adjustment"))?;
                    Ok((id, value))
                };
                rows.into_iter().map(read).collect()
            })
            .await
    }

    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        self.database
            .read(move |mut transaction| async move {
                let lanes: Vec<(u64, u16)> =
                    sqlx::query_as(include_str!("../../sql/lanes.sql")).fetch_all(&mut *transaction).await?;
                lanes.into_iter().map(|(activity, bucket)| lane_of(activity, bucket)).collect()
            })
            .await
    }

    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError> {
        self.database
            .read(move |mut transaction| async move {
                let query = match activity {
                    Some(activity) => sqlx::query_as(include_str!("../../sql/order_find.sql"))
                        .bind(order.value())
                        .bind(activity.value()),
                    None => {
                        sqlx::query_as(include_str!("../../sql/order_find_anywhere.sql")).bind(order.value())
                    }
                };
                let found: Option<(u64, u16, u64)> = query.fetch_optional(&mut *transaction).await?;
                let read = |(activity, bucket, user): (u64, u16, u64)| {
                    let user = UserId::new(user).ok_or_else(|| damaged("the user of an order"))?;
                    Ok((lane_of(activity, bucket)?, user))
                };
                found.map(read).transpose()
            })
            .await
    }
}

fn lane_of(activity: u64, bucket: u16) -> Result<Lane, Failure> {
    let activity = ActivityId::new(activity).ok_or_else(|| damaged("the activity of a lane"))?;
    Ok(Lane { activity, bucket })
}

fn damaged(what: &str) -> Failure {
    Failure::Final(LedgerError::Stopped(format!("MySQL: {what} is damaged: restore a backup").into()))
}
