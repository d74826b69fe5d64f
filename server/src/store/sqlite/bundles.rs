//! Sealed bundles in SQLite.

use std::ops::Range;

use sqlx::{Connection, Row};

use super::{SqliteStore, StoreError};
use crate::store::bundles::sealed;

impl SqliteStore {
    pub(in crate::store) async fn sealed(&self) -> Result<Range<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT min(bundle) FROM bundles) AS first,
                 (SELECT max(bundle) FROM bundles) AS last,
                 coalesce((SELECT min(first_seq) FROM blocks), head + 1) AS oldest
             FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        let oldest = row.try_get::<i64, _>("oldest")? as u64;
        Ok(sealed(row.try_get("first")?, row.try_get("last")?, oldest))
    }

    pub(in crate::store) async fn put_sealed(
        &self,
        bundles: Range<u64>,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut put = 0;
        for bundle in bundles {
            // It follows the last one, and its first message is there, so all of them are.
            let inserted = sqlx::query(
                "INSERT INTO bundles (bundle, received_at)
                 SELECT ?1, max(received_at) FROM blocks
                 WHERE first_seq + messages > ?1 * 256 + 1 AND first_seq <= ?1 * 256 + 256
                     AND first_seq >= (SELECT max(first_seq) FROM blocks WHERE first_seq <= ?1 * 256 + 1)
                 HAVING min(first_seq) <= ?1 * 256 + 1
                     AND coalesce((SELECT max(bundle) FROM bundles), ?1 - 1) = ?1 - 1",
            );
            match inserted.bind(bundle as i64).execute(&mut *tx).await?.rows_affected() {
                0 => break,
                _ => put += 1,
            }
        }
        sqlx::query(
            "DELETE FROM blocks
             WHERE first_seq > (SELECT min(bundle) FROM bundles) * 256
                 AND first_seq <= (SELECT max(bundle) FROM bundles) * 256 + 256
                 AND first_seq + messages <= (SELECT max(bundle) FROM bundles) * 256 + 257",
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(put)
    }
}
