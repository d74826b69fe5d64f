//! Secrets, and ids of grants, in PostgreSQL.

use sqlx::Connection;

use super::{BEGIN, Hash, PostgresStore, StoreError, in_time};

const FIND: &str = "SELECT secret FROM secrets WHERE purpose = $1 AND number = $2";

impl PostgresStore {
    pub(in crate::store) async fn secret(
        &self,
        purpose: i16,
        number: i64,
        fresh: &Hash,
    ) -> Result<Option<Hash>, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            let insert = "INSERT INTO secrets (purpose, number, secret) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING";
            sqlx::query(insert).bind(purpose).bind(number).bind(fresh).execute(&mut *tx).await?;
            let found = sqlx::query_scalar(FIND).bind(purpose).bind(number);
            let secret = found.fetch_one(&mut *tx).await?;
            tx.commit().await?;
            lent.release();
            hash(secret)
        })
        .await
    }

    pub(in crate::store) async fn find_secret(
        &self,
        purpose: i16,
        number: i64,
    ) -> Result<Option<Hash>, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let found = sqlx::query_scalar(FIND).bind(purpose).bind(number);
            let secret: Option<Vec<u8>> = found.fetch_optional(&mut *lent).await?;
            lent.release();
            secret.map_or(Ok(None), hash)
        })
        .await
    }

    pub(in crate::store) async fn note_grant(
        &self,
        id_hash: &Hash,
        number: i64,
        now: i64,
    ) -> Result<i64, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            let insert = "INSERT INTO grants (id_hash, number, granted_at) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING";
            sqlx::query(insert).bind(id_hash).bind(number).bind(now).execute(&mut *tx).await?;
            let noted = sqlx::query_scalar("SELECT number FROM grants WHERE id_hash = $1");
            let noted = noted.bind(id_hash).fetch_one(&mut *tx).await?;
            tx.commit().await?;
            lent.release();
            Ok(noted)
        })
        .await
    }

    /// The server keeps what is deleted until it vacuums; its log and backups keep it longer.
    pub(in crate::store) async fn wipe_secrets(
        &self,
        purpose: i16,
        below: i64,
    ) -> Result<u64, StoreError> {
        let wipe =
            "UPDATE secrets SET secret = '' WHERE purpose = $1 AND number < $2 AND secret != ''";
        self.prune_step("FOR KEY SHARE", sqlx::query(wipe).bind(purpose).bind(below)).await
    }

    pub(in crate::store) async fn forget_secrets(
        &self,
        purpose: i16,
        below: i64,
    ) -> Result<u64, StoreError> {
        let forget = sqlx::query("DELETE FROM secrets WHERE purpose = $1 AND number < $2");
        self.prune_step("FOR KEY SHARE", forget.bind(purpose).bind(below)).await
    }

    pub(in crate::store) async fn forget_grants(&self, before: i64) -> Result<u64, StoreError> {
        let forget = sqlx::query("DELETE FROM grants WHERE granted_at < $1").bind(before);
        self.prune_step("FOR KEY SHARE", forget).await
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
