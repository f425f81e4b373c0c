//! Schemas of one private server, which tests use in turn.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use flashsale_mysql::{Database, Options};
use flashsale_testkit::mariadb::{Durability, MariaDb};
use sqlx::{Connection as _, Executor as _, MySqlConnection};

/// The tables to empty before a schema is used again.
const TABLES: [&str; 6] = ["lane", "lane_row", "offer_units", "orders", "outbox", "worker_lease"];

/// What a test relies on.
const ANSWERS: &str = "the server answers";

/// Migrated schemas that no test uses.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// An empty, migrated schema. Others may use it again once this is dropped.
#[derive(Debug)]
pub(crate) struct Schema {
    name: String,
}

impl Schema {
    pub(crate) async fn empty() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(name) = free else {
            let schema = Self::unmigrated().await;
            schema.database().migrate().await.expect(ANSWERS);
            return schema;
        };
        let schema = Self { name };
        let mut connection = schema.connection().await;
        for table in TABLES {
            connection.execute(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).await.expect(ANSWERS);
        }
        connection.close().await.expect(ANSWERS);
        schema
    }

    /// A schema without a table.
    pub(crate) async fn unmigrated() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flashsale_test_{}_{count}", std::process::id());
        let mut connection = MySqlConnection::connect(server().url()).await.expect(ANSWERS);
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect(ANSWERS);
        connection.close().await.expect(ANSWERS);
        Self { name }
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(&self.url()).expect("a URL");
        // A busy machine is no reason to shed.
        options.patience = std::time::Duration::from_secs(60);
        options
    }

    pub(crate) fn database(&self) -> Database {
        Database::new(&self.options())
    }

    pub(crate) async fn connection(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url()).await.expect(ANSWERS)
    }

    fn url(&self) -> String {
        format!("{}/{}", server().url(), self.name)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.name.clone());
    }
}

fn server() -> &'static MariaDb {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    SERVER.get_or_init(|| MariaDb::start(Durability::None))
}
