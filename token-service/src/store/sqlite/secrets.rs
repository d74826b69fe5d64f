//! Secrets, and ids of grants, in SQLite.

use std::time::Duration;

use sqlx::sqlite::SqliteArguments;
use sqlx::{ConnectOptions, Connection, Sqlite};
use tocyn_durable::sqlite;

use super::{Hash, SqliteStore, StoreError};

/// How long to wait for those who read, before it is left for the next time.
const FLUSH_PATIENCE: Duration = Duration::from_millis(50);

const FIND: &str = "SELECT secret FROM secrets WHERE purpose = ?1 AND number = ?2";

impl SqliteStore {
    pub(in crate::store) async fn secret(
        &self,
        purpose: i16,
        number: i64,
        fresh: &Hash,
    ) -> Result<Option<Hash>, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let insert = "INSERT OR IGNORE INTO secrets (purpose, number, secret) VALUES (?1, ?2, ?3)";
        sqlx::query(insert).bind(purpose).bind(number).bind(&fresh[..]).execute(&mut *tx).await?;
        let secret =
            sqlx::query_scalar(FIND).bind(purpose).bind(number).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        hash(secret)
    }

    pub(in crate::store) async fn find_secret(
        &self,
        purpose: i16,
        number: i64,
    ) -> Result<Option<Hash>, StoreError> {
        let found = sqlx::query_scalar(FIND).bind(purpose).bind(number);
        Ok(found.fetch_optional(&self.readers).await?.map(hash).transpose()?.flatten())
    }

    pub(in crate::store) async fn note_grant(
        &self,
        id_hash: &Hash,
        number: i64,
        now: i64,
    ) -> Result<i64, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let insert =
            "INSERT OR IGNORE INTO grants (id_hash, number, granted_at) VALUES (?1, ?2, ?3)";
        sqlx::query(insert).bind(&id_hash[..]).bind(number).bind(now).execute(&mut *tx).await?;
        let noted = sqlx::query_scalar("SELECT number FROM grants WHERE id_hash = ?1");
        let noted = noted.bind(&id_hash[..]).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(noted)
    }

    /// What is replaced is overwritten in the file; [`Self::flush_wiped`] does the log beside it.
    pub(in crate::store) async fn wipe_secrets(
        &self,
        purpose: i16,
        below: i64,
    ) -> Result<u64, StoreError> {
        let wipe =
            "UPDATE secrets SET secret = x'' WHERE purpose = ?1 AND number < ?2 AND secret != x''";
        self.overwriting(sqlx::query(wipe).bind(purpose).bind(below)).await
    }

    pub(in crate::store) async fn forget_secrets(
        &self,
        purpose: i16,
        below: i64,
    ) -> Result<u64, StoreError> {
        let forget = "DELETE FROM secrets WHERE purpose = ?1 AND number < ?2";
        self.overwriting(sqlx::query(forget).bind(purpose).bind(below)).await
    }

    async fn overwriting<'q>(
        &self,
        statement: sqlx::query::Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.acquire().await?;
        sqlx::raw_sql("PRAGMA secure_delete = ON").execute(&mut *writer).await?;
        let done = statement.execute(&mut *writer).await;
        sqlx::raw_sql("PRAGMA secure_delete = OFF").execute(&mut *writer).await?;
        Ok(done?.rows_affected())
    }

    /// Copies the log into the file and empties it, on a connection of its own: nobody waits for who
    /// reads there.
    pub(in crate::store) async fn flush_wiped(&self) -> Result<bool, StoreError> {
        let options = sqlite::options(&self.file()).busy_timeout(FLUSH_PATIENCE);
        let mut connection = options.connect().await?;
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(busy == 0)
    }

    pub(in crate::store) async fn forget_grants(&self, before: i64) -> Result<u64, StoreError> {
        let forget = sqlx::query("DELETE FROM grants WHERE granted_at < ?1").bind(before);
        Ok(forget.execute(&self.writer).await?.rows_affected())
    }
}

/// None where it is wiped.
fn hash(bytes: Vec<u8>) -> Result<Option<Hash>, StoreError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let hash = bytes.try_into().map_err(|_| sqlx::Error::Decode("a secret has 32 bytes".into()))?;
    Ok(Some(hash))
}
