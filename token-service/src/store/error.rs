//! What can go wrong with the database.

use sqlx::postgres::PgDatabaseError;
use tocyn_durable::sqlite::exit_if_sync_failed;

/// The database failed. Nothing was charged; or, where the connection to a server broke in the
/// commit, all or nothing: the same request sent again finds out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be opened.
    #[error("{database}: {reason}")]
    Open {
        /// The database file, or where the server is.
        database: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The disk is full.
    #[error("the disk of the database is full")]
    Full,
    /// Another process holds the database for too long.
    #[error("the database is locked by another process")]
    Busy,
    /// Another issuer has brought a new pairing to the database that they share.
    #[error(
        "the pairing was replaced, and this issuer still has the old one; copy the new \
         pairing.toml into its data folder and start it again"
    )]
    PairingReplaced,
    /// The vouchers were moved to another database while this process had the old one open.
    #[error(
        "these vouchers have just been moved to PostgreSQL; set database.url in config.toml to \
         where they are, and do the same again"
    )]
    Moved,
    /// This machine's clock is not the database's.
    #[error(
        "this machine's clock is {seconds} seconds off the database's: set both right. No epoch is \
         closed until then"
    )]
    Clock {
        /// How many; above 0 if this one is ahead.
        seconds: i64,
    },
    /// Anything else.
    #[error("the database failed")]
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
    /// Does not return where a sync has failed.
    fn from(error: sqlx::Error) -> Self {
        exit_if_sync_failed(&error);
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => Self::Busy,
                error => Self::Database(error),
            };
        };
        let code = database.code().unwrap_or_default();
        let known = match database.try_downcast_ref::<PgDatabaseError>() {
            Some(_) => of_postgres(&code),
            None => of_sqlite(&code),
        };
        known.unwrap_or(Self::Database(error))
    }
}

/// By SQLSTATE (PostgreSQL, appendix A).
fn of_postgres(code: &str) -> Option<StoreError> {
    match code {
        "53100" => Some(StoreError::Full),
        // A lock that was not to be had in time, a deadlock, too many connections.
        "55P03" | "40P01" | "53300" => Some(StoreError::Busy),
        _ => None,
    }
}

/// SQLite's primary result code is the low byte of the extended one.
fn of_sqlite(code: &str) -> Option<StoreError> {
    // SQLITE_CONSTRAINT_TRIGGER: the triggers guard vouchers that were moved.
    if code == "1811" {
        return Some(StoreError::Moved);
    }
    match code.parse::<u32>().ok()? & 0xff {
        13 => Some(StoreError::Full),
        5 | 6 => Some(StoreError::Busy),
        _ => None,
    }
}
