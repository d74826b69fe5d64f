//! Secrets, and ids of grants, in SQLite.

use super::{Hash, SqliteStore, StoreError};

const FIND: &str = "SELECT secret FROM secrets WHERE purpose = ?1 AND number = ?2";

impl SqliteStore {
    pub(in crate::store) async fn secret(
        &self,
        purpose: i16,
        number: i64,
        fresh: &Hash,
    ) -> Result<Hash, StoreError> {
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
        found.fetch_optional(&self.readers).await?.map(hash).transpose()
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

    /// What is deleted is overwritten, in the file and in the log beside it.
    pub(in crate::store) async fn wipe_secrets(
        &self,
        purpose: i16,
        below: i64,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.acquire().await?;
        sqlx::raw_sql("PRAGMA secure_delete = ON").execute(&mut *writer).await?;
        let wipe = sqlx::query("DELETE FROM secrets WHERE purpose = ?1 AND number < ?2");
        let wiped = wipe.bind(purpose).bind(below).execute(&mut *writer).await?.rows_affected();
        sqlx::raw_sql("PRAGMA secure_delete = OFF").execute(&mut *writer).await?;
        if wiped > 0 {
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *writer).await?;
        }
        Ok(wiped)
    }

    pub(in crate::store) async fn forget_grants(&self, before: i64) -> Result<u64, StoreError> {
        let forget = sqlx::query("DELETE FROM grants WHERE granted_at < ?1").bind(before);
        Ok(forget.execute(&self.writer).await?.rows_affected())
    }
}

fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| sqlx::Error::Decode("a secret has 32 bytes".into()).into())
}
