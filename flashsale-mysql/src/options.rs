//! How to reach a database.

use std::{fmt, str::FromStr as _, time::Duration};

use sqlx::mysql::MySqlConnectOptions;

use crate::DatabaseError;

/// How to reach a database, and how many connections to keep.
#[derive(Clone)]
pub struct Options {
    pub(crate) connect: MySqlConnectOptions,
    /// The maximum number of connections that write. Few are enough: a commit takes a whole batch. Default 8.
    pub writers: u32,
    /// The maximum number of connections that read. Default 8.
    pub readers: u32,
    /// How long a call waits for a free connection before it fails. Default 250 ms.
    pub patience: Duration,
}

impl Options {
    /// Reads a URL such as `mysql://user:password@host:3306/database`.
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn new(url: &str) -> Result<Self, DatabaseError> {
        // The message of the parser may repeat the URL, which may have a password.
        let connect = MySqlConnectOptions::from_str(url).map_err(|_| DatabaseError::Url)?;
        let connect = connect.charset("utf8mb4").collation("utf8mb4_bin").timezone("+00:00".to_owned());
        Ok(Self { connect, writers: 8, readers: 8, patience: Duration::from_millis(250) })
    }

    /// Sets the password, for example from a file.
    #[must_use]
    pub fn with_password(self, password: &str) -> Self {
        Self { connect: self.connect.password(password), ..self }
    }
}

/// Without the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("host", &self.connect.get_host())
            .field("port", &self.connect.get_port())
            .field("database", &self.connect.get_database())
            .field("writers", &self.writers)
            .field("readers", &self.readers)
            .field("patience", &self.patience)
            .finish()
    }
}
