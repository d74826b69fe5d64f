//! Sealed bundles in PostgreSQL. Any relay that has the folder may seal and drop.

use std::ops::Range;

use sqlx::{Connection, FromRow, Row};
use tocyn_protocol::log::tile::{TILE_WIDTH, encode_hashes};

use super::epochs::BEGIN;
use super::{LogRow, PostgresStore, StoreError, in_time, unsigned};
use crate::store::FullTile;
use crate::store::bundles::{DELETE_SEALED_BLOCKS, sealed};

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
                 coalesce((SELECT min(first_seq) FROM blocks), head + 1) AS oldest,
                 (SELECT below FROM dropped) AS dropped_below
             FROM log",
        );
        let row = self.ask(async |db| query.fetch_one(db).await).await?;
        let oldest = unsigned(row.try_get("oldest")?);
        let dropped_below = row.try_get("dropped_below")?;
        Ok(sealed(row.try_get("first")?, row.try_get("last")?, oldest, dropped_below))
    }

    pub(in crate::store) async fn put_sealed(
        &self,
        bundles: &[FullTile],
    ) -> Result<u64, StoreError> {
        self.check_went_back()?;
        let seen = self.seen_head();
        in_time(async {
            let mut connection = self.connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::raw_sql(LOCK_BUNDLES).execute(&mut *tx).await?;
            // What this process has sealed may be of a log that is no more: a standby that lagged may
            // have taken over since, and may even have grown past this by now.
            let row = self.log_row().fetch_one(&mut *tx).await?;
            let pairing_id: Vec<u8> = row.try_get("pairing_id")?;
            if pairing_id != self.0.pairing_id {
                return Err(StoreError::PairingReplaced);
            }
            let end = bundles.last().map_or(0, |last| (last.index + 1) * TILE_WIDTH);
            self.read_head(LogRow::from_row(&row)?, seen.max(end)).await?;
            let mut put = 0;
            for tile in bundles {
                let bundle = tile.index as i64;
                let same = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT FROM tiles WHERE level = 0 AND tile = $1 AND hashes = $2)",
                );
                let same = same.bind(bundle).bind(encode_hashes(&tile.hashes));
                if tile.level != 0 || !same.fetch_one(&mut *tx).await? {
                    return Err(StoreError::Tree);
                }
                // It follows the last one, and its first message is there, so all of them are.
                let inserted = sqlx::query(
                    "INSERT INTO bundles (bundle, received_at)
                     SELECT $1, max(received_at) FROM blocks
                     WHERE first_seq + messages > $1 * 256 + 1 AND first_seq <= $1 * 256 + 256
                         AND first_seq >= (SELECT max(first_seq) FROM blocks WHERE first_seq <= $1 * 256 + 1)
                     HAVING min(first_seq) <= $1 * 256 + 1
                         AND coalesce((SELECT max(bundle) FROM bundles), $1 - 1) = $1 - 1
                         AND $1 >= (SELECT below FROM dropped)",
                );
                match inserted.bind(bundle).execute(&mut *tx).await?.rows_affected() {
                    0 => break,
                    _ => put += 1,
                }
            }
            sqlx::query(DELETE_SEALED_BLOCKS).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(put)
        })
        .await
    }
}
