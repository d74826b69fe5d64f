//! What can go wrong with the database.

use sqlx::postgres::PgDatabaseError;
use tocyn_durable::sqlite::exit_if_sync_failed;

use crate::bundles::FolderError;

/// The database failed. Nothing was spent and nothing stored; or, where the connection to a server
/// broke, all or nothing.
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
    #[error("the relay's disk is full; nothing was spent")]
    Full,
    /// The database is held by another process for too long.
    #[error("the relay's database is busy; nothing was spent, send the same post again")]
    Busy,
    /// Retention has deleted what a reader was to get next. It is cut off in the middle, and
    /// told 410 when it asks again.
    #[error("the messages to read next are no longer kept")]
    Overtaken,
    /// Another relay has brought a new pairing to the database that they share.
    #[error(
        "the pairing was replaced, and this relay still has the old one; its operator must run \
         `tocyn-relay pairing install` and start it again"
    )]
    PairingReplaced,
    /// The database ends before what this process knows to be durable.
    #[error(
        "the relay's database has lost messages that were acknowledged, and with them which \
         tokens were spent; its operator must renew the pairing and start again"
    )]
    WentBack,
    /// The server has become a standby, or the connection leads to one.
    #[error(
        "the relay's database is a standby, which takes no posts and may lag; its operator must \
         lead the relay to the primary. Send the same post again"
    )]
    Standby,
    /// This machine's clock is not the database's.
    #[error(
        "this machine's clock is {seconds} seconds off the database's: set both right. Nothing is \
         deleted until then"
    )]
    Clock {
        /// How many; above 0 if this one is ahead.
        seconds: i64,
    },
    /// The tree does not go with the log.
    #[error(
        "the tree over the relay's messages is damaged; its operator must run `tocyn-relay db check`"
    )]
    Tree,
    /// A file of sealed messages cannot be read or written.
    #[error(
        "the relay's sealed messages cannot be read or written; its operator must run `tocyn-relay \
         db check`"
    )]
    Folder(#[from] FolderError),
    /// Another relay has sealed messages into a folder that this one does not know.
    #[error(
        "other relays have sealed these messages into files; the operator of this one must set \
         log.folder as they have it, and start it again"
    )]
    NoFolder,
    /// The message is stored, and the tree cannot be had for the moment.
    #[error("the message is stored, but its proof is not to be had now; send the same post again")]
    NotProven,
    /// There is no partition for the epoch of a token.
    #[error("the relay's database has no room for this epoch yet; send the same post again")]
    EpochUnknown,
    /// Anything else.
    #[error("the relay's database failed; send the same post again")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Tells the operator, once for each failure.
    pub fn log(&self) {
        tracing::error!(error = %self, source = self.reason(), "the store failed");
    }

    /// What is behind it, with the file's path if it is one: for the operator, not for clients.
    pub fn reason(&self) -> Option<String> {
        std::error::Error::source(self).map(ToString::to_string)
    }

    /// Tells the operator of what cut a reader off that had its answer's head already, if it is for the
    /// operator to mend.
    pub fn log_cut(&self) {
        if let Self::Folder(_) | Self::Tree | Self::NoFolder = self {
            tracing::error!(error = %self, source = self.reason(), "a reader was cut off");
        }
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

/// By SQLSTATE (PostgreSQL, appendix A), and the codes of our own in `migrations/postgres`.
fn of_postgres(code: &str) -> Option<StoreError> {
    match code {
        "53100" => Some(StoreError::Full),
        // A lock that was not to be had in time, a deadlock, too many connections.
        "55P03" | "40P01" | "53300" => Some(StoreError::Busy),
        "23514" => Some(StoreError::EpochUnknown),
        "TOC01" => Some(StoreError::PairingReplaced),
        "TOC02" => Some(StoreError::WentBack),
        _ => None,
    }
}

/// SQLite's primary result code is the low byte of the extended one.
fn of_sqlite(code: &str) -> Option<StoreError> {
    match code.parse::<u32>().ok()? & 0xff {
        13 => Some(StoreError::Full),
        5 | 6 => Some(StoreError::Busy),
        _ => None,
    }
}
