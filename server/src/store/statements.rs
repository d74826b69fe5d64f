//! The relay's statements of keys, as the database keeps them.

use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::statement::tree::EpochTree;

use super::{Store, StoreError};

/// A statement of keys in the database.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredStatement {
    /// Its number, from 0.
    #[sqlx(try_from = "i64")]
    pub serial: u64,
    /// The signed note.
    pub note: String,
    /// Messages in the log when it was added. Checkpoints of longer logs name it, or a later one.
    #[sqlx(try_from = "i64")]
    pub since: u64,
}

impl Store {
    /// All statements, in the order of their serials.
    pub async fn statements(&self) -> Result<Vec<StoredStatement>, StoreError> {
        match self {
            Self::Sqlite(store) => store.statements().await,
            Self::Postgres(store) => store.statements().await,
        }
    }

    /// The leaves of a statement's tree, 32 bytes for each epoch.
    pub async fn statement_leaves(&self, serial: u64) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Sqlite(store) => store.statement_leaves(serial).await,
            Self::Postgres(store) => store.statement_leaves(serial).await,
        }
    }

    /// Adds a statement, if it is the next one; false if another relay has added one meanwhile. When
    /// this returns true it is durable: only then may anyone be shown it, since a serial that is lost
    /// would be given away twice.
    pub async fn add_statement(
        &self,
        serial: u64,
        note: &str,
        tree: &EpochTree,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.add_statement(serial, note, tree).await,
            Self::Postgres(store) => store.add_statement(serial, note, tree).await,
        }
    }

    /// From now on posts are refused while the newest statement has other keys than those with this
    /// root: this relay could not sign a log that names it.
    pub fn sign_for(&self, root: NodeHash) {
        match self {
            Self::Sqlite(_) => {} // one process, whose statements these are
            Self::Postgres(store) => store.sign_for(root.0),
        }
    }

    /// How many statements there are, as far as this process has heard by its last look at the log
    /// or its last message: other relays may add some.
    pub fn statements_heard_of(&self) -> Option<u64> {
        match self {
            Self::Sqlite(_) => None, // one process, which adds them itself
            Self::Postgres(store) => Some(store.statements_heard_of()),
        }
    }
}
