//! Leases of worker ids.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use flashsale_core::{
    domain::Timestamp,
    snowflake::{HolderId, Lease, LeaseError, WorkerLease, WorkerState},
};
use sqlx::{MySql, Transaction};

use crate::{
    Database,
    error::{Failure, commit_failed},
};

/// Leases of worker ids in MySQL or MariaDB, for processes on any machines.
///
/// A mark is as durable as a commit of the server: with `innodb_flush_log_at_trx_commit = 1` it survives a
/// power cut. After a crash of its holder, a worker id is free when the lease ends; until then others take
/// another one, so have more worker ids than processes. A fail-over to a replica that lags may repeat a span;
/// wait until the clock has passed the newest lease, or use a range that was not used.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use flashsale_core::{domain::SystemClock, snowflake::{Generator, Settings}};
/// use flashsale_mysql::{Database, MySqlLease, Options};
///
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database::new(&Options::new("mysql://shop@localhost/shop")?);
/// database.migrate().await?;
/// let leases = MySqlLease::new(database, 0..=1023);
/// let ids = Generator::acquire(&leases, &Settings::default(), Arc::new(SystemClock)).await?;
/// # drop(ids);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MySqlLease {
    database: Database,
    workers: RangeInclusive<u16>,
}

impl MySqlLease {
    /// Grants leases of the ids in `workers`, in a database whose schema is
    /// [up to date](Database::migrate).
    pub fn new(database: Database, workers: RangeInclusive<u16>) -> Self {
        Self { database, workers }
    }

    /// Reads the states of worker ids, decides, and writes one state, while no other process does the same.
    async fn step(
        &self,
        action: &str,
        workers: RangeInclusive<u16>,
        decide: impl Fn(&BTreeMap<u16, WorkerState>) -> Result<(Lease, WorkerState), LeaseError>
        + Send
        + Sync
        + 'static,
    ) -> Result<Lease, LeaseError> {
        let decide = Arc::new(decide);
        let work = move |mut transaction: Transaction<'static, MySql>| {
            let (decide, workers) = (Arc::clone(&decide), workers.clone());
            async move {
                // A lock on the row of worker id 0, which this creates: the states of others may not exist yet.
                sqlx::query(include_str!("../sql/worker_turn.sql")).execute(&mut *transaction).await?;
                let states = read(&mut transaction, workers).await?;
                match decide(&states) {
                    Ok((lease, state)) => {
                        write(&mut transaction, lease.worker, state).await?;
                        transaction.commit().await.map_err(commit_failed)?;
                        Ok(Ok(lease))
                    }
                    Err(refused) => {
                        transaction.rollback().await?;
                        Ok(Err(refused))
                    }
                }
            }
        };
        let done = self.database.write(work).await;
        done.unwrap_or_else(|error| {
            Err(LeaseError::Store { action: action.to_owned(), source: error.into() })
        })
    }
}

#[async_trait]
impl WorkerLease for MySqlLease {
    async fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let workers = self.workers.clone();
        self.step("cannot acquire a worker id in the database", workers.clone(), move |states| {
            let (worker, mut state) = WorkerState::choose(workers.clone(), states, holder, now)?;
            Ok((state.grant(worker, holder, until), state))
        })
        .await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        let workers = lease.worker..=lease.worker;
        self.step("cannot renew the lease of a worker id in the database", workers, move |states| {
            let mut state = states.get(&lease.worker).copied().unwrap_or_default();
            Ok((state.renew(lease, until)?, state))
        })
        .await
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        let workers = lease.worker..=lease.worker;
        self.step("cannot release a worker id in the database", workers, move |states| {
            let mut state = states.get(&lease.worker).copied().unwrap_or_default();
            state.release(lease, used_until)?;
            Ok((lease, state))
        })
        .await
        .map(drop)
    }
}

async fn read(
    transaction: &mut Transaction<'static, MySql>,
    workers: RangeInclusive<u16>,
) -> Result<BTreeMap<u16, WorkerState>, Failure> {
    let rows: Vec<(u16, Option<Vec<u8>>, u64, u64)> = sqlx::query_as(include_str!("../sql/workers_read.sql"))
        .bind(workers.start())
        .bind(workers.end())
        .fetch_all(&mut **transaction)
        .await?;
    let state = |(worker, holder, from, until): (u16, Option<Vec<u8>>, u64, u64)| {
        let holder = holder.map(|holder| holder.try_into().map(u128::from_be_bytes).map(HolderId));
        let holder = holder.transpose().map_err(|_| sqlx::Error::Decode("a holder has 16 bytes".into()))?;
        let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(until));
        Ok((worker, WorkerState { holder, from, until }))
    };
    rows.into_iter().map(state).collect()
}

async fn write(
    transaction: &mut Transaction<'static, MySql>,
    worker: u16,
    state: WorkerState,
) -> Result<(), Failure> {
    sqlx::query(include_str!("../sql/worker_write.sql"))
        .bind(worker)
        .bind(state.holder.map(|HolderId(holder)| holder.to_be_bytes().to_vec()))
        .bind(state.from.as_millis())
        .bind(state.until.as_millis())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
