//! Errors of the database, and what they say about a transaction.

use flashsale_core::ledger::LedgerError;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL of the database is not one.
    #[error("the URL of the database is not of the form mysql://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url,
    /// Another process migrates the database, or seems to.
    #[error(
        "another process has been migrating the database for {0} s: wait for it, or end its connection, which \
         SHOW PROCESSLIST lists"
    )]
    Migrating(u32),
    /// A step of the schema failed. It can be repeated.
    #[error("the schema of the database cannot be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database cannot be reached, or refuses.
    #[error("the database cannot be used")]
    Unavailable(#[from] sqlx::Error),
}

/// Codes after which a transaction is rolled back and can be repeated: 1205 lock wait timeout (which rolls
/// back one statement only, so the rest must be rolled back too), 1213 deadlock, 1020 a row changed since the
/// snapshot.
const CONFLICTS: [u16; 3] = [1205, 1213, 1020];

/// What a failed statement means, as long as COMMIT was not sent: nothing happened.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The transaction can be repeated at once.
    Repeat(LedgerError),
    /// It cannot.
    Final(LedgerError),
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Repeat(error) | Failure::Final(error) => error,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let is_conflict =
            number_of(&error).map_or_else(|| is_lost(&error), |number| CONFLICTS.contains(&number));
        let text = format!("MySQL: {error}").into();
        match &error {
            _ if is_conflict => Self::Repeat(LedgerError::Unavailable(text)),
            // What the schema forbids would be a bug of the ledger or of who changed its tables.
            sqlx::Error::Database(error) if error.is_check_violation() || error.is_unique_violation() => {
                Self::Final(LedgerError::Stopped(text))
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Self::Final(LedgerError::Stopped(text))
            }
            _ => Self::Final(LedgerError::Unavailable(text)),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::Final(error)
    }
}

/// The server's number of an error; `None` if the server did not answer.
fn number_of(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    Some(error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?.number())
}

/// Whether the connection ended. Another one may work.
fn is_lost(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
}

/// What an error of COMMIT means: only an answer of the server says that nothing happened.
pub(crate) fn commit_failed(error: sqlx::Error) -> Failure {
    match number_of(&error) {
        Some(number) if CONFLICTS.contains(&number) => error.into(),
        _ => Failure::Final(LedgerError::Unknown(format!("MySQL did not answer COMMIT: {error}").into())),
    }
}
