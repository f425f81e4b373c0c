//! Flash sales in MySQL 8.0 or MariaDB 10.6, or later: the database that shops already have.
//!
//! [`MySqlRows`] is a store of [rows](flashsale_core::ledger::rows). A
//! [`RowLedger`](flashsale_core::ledger::rows::RowLedger) on top of it decides by the specification;
//! this crate contains no rule of a sale. [`MySqlLease`] leases worker ids to the
//! [generators of ids](flashsale_core::snowflake). Any number of processes may use one database.
//!
//! Every statement is a file under `sql/`, every step of the schema a file under `migrations/`.
//!
//! # Example
//! ```no_run
//! use std::sync::Arc;
//!
//! use flashsale_core::{domain::SystemClock, ledger::rows::RowLedger};
//! use flashsale_mysql::{Database, MySqlRows, Options};
//!
//! # async fn open() -> Result<(), flashsale_mysql::DatabaseError> {
//! let database = Database::new(&Options::new("mysql://shop@localhost/shop")?);
//! database.migrate().await?;
//! let rows = Arc::new(MySqlRows::new(database));
//! let ledger = RowLedger::single(rows, Arc::new(SystemClock));
//! # drop(ledger);
//! # Ok(())
//! # }
//! ```

mod database;
mod error;
mod lease;
mod migration;
mod options;
mod rows;
mod statement;

pub use database::Database;
pub use error::DatabaseError;
pub use lease::MySqlLease;
pub use options::Options;
pub use rows::MySqlRows;
