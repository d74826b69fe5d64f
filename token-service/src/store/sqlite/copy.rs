//! All that the file holds, to be moved elsewhere.

use super::{SqliteStore, StoreError};
use crate::store::VOUCHERS;
use crate::store::copy::{CHARGES, Contents, ISSUER, RETIRED};

impl SqliteStore {
    pub(in crate::store) async fn contents(&self) -> Result<Contents, StoreError> {
        let mut tx = self.readers.begin().await?;
        let (pairing_id, closed_below) = sqlx::query_as(ISSUER).fetch_one(&mut *tx).await?;
        Ok(Contents {
            pairing_id,
            closed_below,
            retired_pairings: sqlx::query_scalar(RETIRED).fetch_all(&mut *tx).await?,
            vouchers: sqlx::query_as(VOUCHERS).fetch_all(&mut *tx).await?,
            charges: sqlx::query_as(CHARGES).fetch_all(&mut *tx).await?,
        })
    }

    /// From now on nobody uses this file.
    pub(in crate::store) async fn mark_moved(&self, now: u64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO moved (moved_at) VALUES (?1)")
            .bind(now as i64)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
