//! Brings the schema up to date, one process at a time.

use std::borrow::Cow;

use sqlx::{
    Connection as _, MySqlConnection, MySqlPool,
    migrate::{Migrate as _, Migration, MigrationType, Migrator},
    mysql::MySqlConnectOptions,
};

use crate::DatabaseError;

/// How long to wait for another process, in seconds.
const PATIENCE: u32 = 60;

/// The steps of the schema. A step never changes once it is released: what exists is extended by a new one, so
/// that an older version can still work.
const STEPS: [(i64, &str, &str); 2] = [
    (1, "ledger", include_str!("../migrations/0001_ledger.sql")),
    (2, "worker lease", include_str!("../migrations/0002_worker_lease.sql")),
];

fn migrator() -> Migrator {
    let steps = STEPS.map(|(version, name, sql)| {
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            true,
        )
    });
    let mut migrator = Migrator::with_migrations(steps.into());
    // A newer version may have taken further steps.
    migrator.set_ignore_missing(true);
    // The lock below is checked; that of the migrator may be none on MariaDB, because it waits for -1 s.
    migrator.set_locking(false);
    migrator
}

/// Takes the steps that are missing.
pub(crate) async fn run(options: &MySqlConnectOptions, pool: &MySqlPool) -> Result<(), DatabaseError> {
    // The server releases the lock with the connection.
    let mut connection = MySqlConnection::connect_with(options).await?;
    let lock = format!("flashsale migration of {}", options.get_database().unwrap_or_default());
    // Names of locks have up to 64 characters.
    let lock: String = lock.chars().take(64).collect();
    let taken: Option<i64> = sqlx::query_scalar(include_str!("../sql/lock_take.sql"))
        .bind(&lock)
        .bind(PATIENCE)
        .fetch_one(&mut connection)
        .await?;
    if taken != Some(1) {
        return Err(DatabaseError::Migrating(PATIENCE));
    }
    repair(&mut connection).await?;
    migrator().run(pool).await?;
    let _: Option<i64> = sqlx::query_scalar(include_str!("../sql/lock_release.sql"))
        .bind(&lock)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// Forgets a step that was interrupted, so that it is taken again. DDL cannot be rolled back, but all our
/// statements can be repeated.
async fn repair(connection: &mut MySqlConnection) -> Result<(), DatabaseError> {
    connection.ensure_migrations_table(TABLE).await?;
    sqlx::query(include_str!("../sql/migration_repair.sql")).execute(connection).await?;
    Ok(())
}

/// Where the migrator notes the steps.
const TABLE: &str = "_sqlx_migrations";
