//! The connections to a database.

use std::{future::Future, time::Duration};

use flashsale_core::ledger::LedgerError;
use sqlx::{Executor as _, MySql, MySqlPool, Transaction, mysql::MySqlPoolOptions};

use crate::{DatabaseError, Options, error::Failure, migration};

/// How often a transaction is repeated from BEGIN.
const ATTEMPTS: u32 = 8;

/// The connections to one database. Clones share them.
///
/// Connections are opened when they are needed. Each transaction runs in a task of its own, so a caller that
/// goes away leaves none half-way. The tasks need the tokio runtime of the caller.
#[derive(Clone, Debug)]
pub struct Database {
    /// They show no password.
    options: Box<Options>,
    writers: MySqlPool,
    readers: MySqlPool,
}

impl Database {
    /// Prepares the connections, without opening one.
    pub fn new(options: &Options) -> Self {
        let writers = pool(options, options.writers, include_str!("../sql/isolation_of_writers.sql"));
        // All statements of a read see one moment.
        let readers = pool(options, options.readers, include_str!("../sql/isolation_of_readers.sql"));
        Self { options: Box::new(options.clone()), writers, readers }
    }

    /// Brings the schema up to date. Any number of processes may call this at once, also while older versions
    /// still use the database.
    ///
    /// # Errors
    /// [`DatabaseError`]; steps that were taken stay.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        migration::run(&self.options.connect, &self.writers).await
    }

    /// Closes all connections after their present transactions.
    pub async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }

    /// Runs a transaction that only reads, all of one moment.
    pub(crate) async fn read<T, F>(
        &self,
        work: impl Fn(Transaction<'static, MySql>) -> F + Send + Sync + 'static,
    ) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        transact(self.readers.clone(), "START TRANSACTION READ ONLY", work).await
    }

    /// Runs a transaction that writes. The work commits it.
    pub(crate) async fn write<T, F>(
        &self,
        work: impl Fn(Transaction<'static, MySql>) -> F + Send + Sync + 'static,
    ) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        transact(self.writers.clone(), "START TRANSACTION", work).await
    }
}

fn pool(options: &Options, connections: u32, isolation: &'static str) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.patience)
        // A lost connection is found by its first statement, and the transaction is repeated on another one.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(isolation).await?;
                connection.execute(include_str!("../sql/session.sql")).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.connect.clone())
}

/// Runs a transaction in a task of its own, and repeats it from the start as long as that helps.
async fn transact<T, F>(
    pool: MySqlPool,
    begin: &'static str,
    work: impl Fn(Transaction<'static, MySql>) -> F + Send + Sync + 'static,
) -> Result<T, LedgerError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    let task = tokio::spawn(async move {
        let mut attempt = 0;
        loop {
            let result = match pool.begin_with(begin).await {
                Ok(transaction) => work(transaction).await,
                Err(error) => Err(error.into()),
            };
            match result {
                Err(Failure::Repeat(_)) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=1 << attempt))).await;
                }
                result => return result.map_err(LedgerError::from),
            }
        }
    });
    task.await.unwrap_or_else(|error| Err(LedgerError::Unknown(format!("a transaction: {error}").into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MySqlRows;

    #[tokio::test]
    async fn no_password_is_shown() {
        let options = Options::new("mysql://shop:from-the-url@localhost/shop").unwrap();
        let options = options.with_password("from-a-file");
        let rows = MySqlRows::new(Database::new(&options));
        for shown in [format!("{options:?}"), format!("{rows:?}")] {
            assert!(shown.contains("localhost") && !shown.contains("from-"), "{shown}");
        }
        let error = Options::new("mysql://shop:from-the-url@localhost:port").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("from-"));
    }
}
