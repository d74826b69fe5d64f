//! Sealed bundles in PostgreSQL. Any relay that has the folder may seal and drop.

use std::ops::Range;

use sqlx::{Connection, Row};

use super::epochs::BEGIN;
use super::{PostgresStore, StoreError, in_time, unsigned};
use crate::store::bundles::sealed;

/// Taken by those who add or drop bundles and those who delete blocks, so that no hole comes
/// between the two. Posts and readers do not wait for it. Files are changed after the
/// commit, so that is made durable.
pub(super) const LOCK_BUNDLES: &str = "LOCK TABLE bundles IN SHARE ROW EXCLUSIVE MODE;
     SELECT set_config('synchronous_commit', 'on', true)
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

impl PostgresStore {
    pub(in crate::store) async fn sealed(&self) -> Result<Range<u64>, StoreError> {
        self.check_went_back()?;
        let query = sqlx::query(
            "SELECT (SELECT min(bundle) FROM bundles) AS first,
                 (SELECT max(bundle) FROM bundles) AS last,
                 coalesce((SELECT min(first_seq) FROM blocks), head + 1) AS oldest
             FROM log",
        );
        let row = self.ask(async |db| query.fetch_one(db).await).await?;
        let oldest = unsigned(row.try_get("oldest")?);
        Ok(sealed(row.try_get("first")?, row.try_get("last")?, oldest))
    }

    pub(in crate::store) async fn put_sealed(
        &self,
        bundles: Range<u64>,
    ) -> Result<u64, StoreError> {
        in_time(async {
            let mut connection = self.connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::raw_sql(LOCK_BUNDLES).execute(&mut *tx).await?;
            // What this process has sealed may be of a log that is no more.
            let good =
                "SELECT EXISTS (SELECT FROM log WHERE pairing_id = $1 AND NOT went_back)";
            let good = sqlx::query_scalar(good).bind(self.0.pairing_id);
            if !good.fetch_one(&mut *tx).await? {
                return Err(StoreError::Tree);
            }
            let mut put = 0;
            for bundle in bundles {
                // It follows the last one, and its first message is there, so all of them are.
                let inserted = sqlx::query(
                    "INSERT INTO bundles (bundle, received_at)
                     SELECT $1, max(received_at) FROM blocks
                     WHERE first_seq + messages > $1 * 256 + 1 AND first_seq <= $1 * 256 + 256
                         AND first_seq >= (SELECT max(first_seq) FROM blocks WHERE first_seq <= $1 * 256 + 1)
                     HAVING min(first_seq) <= $1 * 256 + 1
                         AND coalesce((SELECT max(bundle) FROM bundles), $1 - 1) = $1 - 1",
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
        })
        .await
    }
}
