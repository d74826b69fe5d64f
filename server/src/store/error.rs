//! What can go wrong with the database.

use std::path::PathBuf;

/// The database failed. Nothing was spent and nothing stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be opened.
    #[error("{path}: {reason}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The disk is full.
    #[error("the relay's disk is full; nothing was spent")]
    Full,
    /// The database is held by another process for too long.
    #[error("the relay's database is busy; nothing was spent, send the same post again")]
    Busy,
    /// Retention has deleted what a reader was to get next. It is cut off in the middle, and
    /// told 410 when it asks again.
    #[error("the messages to read next are no longer kept")]
    Overtaken,
    /// Anything else.
    #[error("the relay's database failed; send the same post again")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Tells the operator, once for each failure.
    pub fn log(&self) {
        let source = std::error::Error::source(self).map(ToString::to_string);
        tracing::error!(error = %self, source, "the store failed");
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLite's primary result code is the low byte of the extended one.
        let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(13) => Self::Full,
            Some(5 | 6) => Self::Busy,
            _ => match error {
                sqlx::Error::PoolTimedOut => Self::Busy,
                error => Self::Database(error),
            },
        }
    }
}
