//! SQLite: one file, one issuer that serves it, and commands beside that.

mod charge;
mod copy;
mod open;
mod report;
mod secrets;

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::SqlitePool;
use tocyn_durable::sqlite::{self, Checkpointer};
use tocyn_protocol::pairing::Epoch;
use tocyn_service::writing::{check_room, is_full};

use super::issued::{ISSUED, IssuedRow, REDEEMED, REPORT};
use super::labels::{LABEL, LABELS};
use super::{Hash, StoreError, VOUCHER, VOUCHERS, VoucherRecord, VoucherRow};
use crate::attester::Attester;

/// How often the WAL is copied back, if anything was committed.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// A database file.
#[derive(Clone)]
pub(super) struct SqliteStore {
    /// SQLite has one writer; a pool of one queues for it fairly.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    pub(super) fn file(&self) -> PathBuf {
        self.readers.connect_options().get_filename().to_owned()
    }

    /// Copies the WAL back, until this is dropped.
    pub(super) async fn work_forever(&self) {
        let mut checkpointer = None;
        loop {
            tokio::time::sleep(CHECKPOINT_INTERVAL).await;
            if let Err(error) = self.copy_back(&mut checkpointer).await {
                tracing::warn!(%error, "cannot shorten the database's WAL; it will be tried again");
            }
        }
    }

    async fn copy_back(&self, checkpointer: &mut Option<Checkpointer>) -> Result<(), StoreError> {
        let checkpointer = match checkpointer {
            Some(checkpointer) => checkpointer,
            None => checkpointer.insert(Checkpointer::open(&self.readers.connect_options()).await?),
        };
        if checkpointer.is_behind().await? {
            checkpointer.copy_back().await?;
            sqlite::checkpoint(&mut *self.writer.acquire().await?).await?;
        }
        Ok(())
    }

    /// Copies back what is left in the WAL, and closes all connections. The close would do it too,
    /// but say nothing of a sync that failed.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        if let Ok(mut writer) = self.writer.acquire().await
            && let Err(error) = sqlite::checkpoint(&mut writer).await
        {
            tracing::warn!(%error, "cannot shorten the database's WAL; the next start does it");
        }
        self.writer.close().await;
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM vouchers LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
    }

    pub(super) async fn try_write(&self, was_full: bool) -> Result<(), StoreError> {
        if was_full {
            check_room(self.file()).await.map_err(|error| match is_full(&error) {
                true => StoreError::Full,
                false => StoreError::Database(sqlx::Error::Io(error)),
            })?;
        }
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        // Twice, because SQLite writes no page whose bytes stay the same.
        for change in [
            "UPDATE issuer SET closed_below = closed_below + 1",
            "UPDATE issuer SET closed_below = closed_below - 1",
        ] {
            sqlx::query(change).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn finds(&self, code_hash: &Hash) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM vouchers WHERE code_hash = ?1")
            .bind(&code_hash[..])
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.is_some())
    }

    pub(super) async fn was_charged(
        &self,
        code_hash: &Hash,
        body_hash: &Hash,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM charges WHERE body_hash = ?2
             AND voucher_id = (SELECT id FROM vouchers WHERE code_hash = ?1)",
        )
        .bind(&code_hash[..])
        .bind(&body_hash[..])
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.is_some())
    }

    pub(super) async fn create_vouchers(
        &self,
        code_hashes: &[Hash],
        attester: Attester,
        tokens: u64,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for hash in code_hashes {
            sqlx::query(
                "INSERT INTO vouchers (code_hash, granted, balance, expires_at, attester)
                 VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )
            .bind(&hash[..])
            .bind(tokens as i64)
            .bind(expires_at as i64)
            .bind(attester as i64)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn make_account(&self, attester: Attester) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO vouchers (code_hash, granted, balance, expires_at, attester)
             VALUES (?1, 0, 0, ?2, ?3) ON CONFLICT DO NOTHING",
        )
        .bind(&attester.account()[..])
        .bind(i64::MAX)
        .bind(attester as i64)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(super) async fn issued(&self, from: Epoch) -> Result<Vec<IssuedRow>, StoreError> {
        Ok(sqlx::query_as(ISSUED).bind(from as i64).fetch_all(&self.readers).await?)
    }

    pub(super) async fn redeemed(&self) -> Result<Vec<(i64, i64, i64)>, StoreError> {
        Ok(sqlx::query_as(REDEEMED).fetch_all(&self.readers).await?)
    }

    pub(super) async fn report_redeemed(
        &self,
        epoch: Epoch,
        tokens: u64,
        corrects: bool,
        now: u64,
    ) -> Result<u64, StoreError> {
        let report = sqlx::query(REPORT).bind(epoch as i64).bind(tokens as i64).bind(now as i64);
        Ok(report.bind(corrects).execute(&self.writer).await?.rows_affected())
    }

    pub(super) async fn put_label(&self, voucher: &[u8], label: &str) -> Result<(), StoreError> {
        sqlx::query(LABEL).bind(voucher).bind(label).execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn labels(&self) -> Result<Vec<(Vec<u8>, String)>, StoreError> {
        Ok(sqlx::query_as(LABELS).fetch_all(&self.readers).await?)
    }

    pub(super) async fn voucher(&self, code_hash: &Hash) -> Result<Option<VoucherRow>, StoreError> {
        let record: Option<VoucherRecord> =
            sqlx::query_as(VOUCHER).bind(&code_hash[..]).fetch_optional(&self.readers).await?;
        Ok(record.and_then(VoucherRecord::row))
    }

    pub(super) async fn list_vouchers(&self) -> Result<Vec<VoucherRow>, StoreError> {
        let records: Vec<VoucherRecord> = sqlx::query_as(VOUCHERS).fetch_all(&self.readers).await?;
        Ok(records.into_iter().filter_map(VoucherRecord::row).collect())
    }

    pub(super) async fn revoke_voucher(
        &self,
        hash_prefix: &[u8],
        now: u64,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE vouchers SET revoked_at = coalesce(revoked_at, ?2)
             WHERE substr(code_hash, 1, length(?1)) = ?1 AND attester < 3",
        )
        .bind(hash_prefix)
        .bind(now as i64)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn prune(&self, oldest_epoch: Epoch) -> Result<u64, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query("DELETE FROM charges WHERE epoch < ?1")
            .bind(oldest_epoch as i64)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE issuer SET closed_below = max(closed_below, ?1)")
            .bind(oldest_epoch as i64)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
