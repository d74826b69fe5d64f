//! All that the file holds, to be moved elsewhere.

use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, StoreError};
use crate::store::VOUCHERS;
use crate::store::copy::{CHARGES, Contents, GRANTS, ISSUER, RETIRED, SECRETS};
use crate::store::issued::{ISSUED, REDEEMED};
use crate::store::labels::LABELS;

/// The file, which nobody else can change until this is dropped.
pub(in crate::store) struct Moving(Transaction<'static, Sqlite>);

impl SqliteStore {
    pub(in crate::store) async fn begin_to_move(&self) -> Result<Moving, StoreError> {
        Ok(Moving(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Where it was moved, or is being moved: what the mark says.
    pub(super) async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(MOVED_TO).fetch_optional(&self.readers).await?)
    }
}

const MOVED_TO: &str = "SELECT target FROM moved";

impl Moving {
    pub(in crate::store) async fn moved_to(&mut self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(MOVED_TO).fetch_optional(&mut *self.0).await?)
    }

    pub(in crate::store) async fn contents(&mut self) -> Result<Contents, StoreError> {
        let tx = &mut *self.0;
        Ok(Contents {
            issuer: sqlx::query_as(ISSUER).fetch_one(&mut *tx).await?,
            retired_pairings: sqlx::query_scalar(RETIRED).fetch_all(&mut *tx).await?,
            vouchers: sqlx::query_as(VOUCHERS).fetch_all(&mut *tx).await?,
            charges: sqlx::query_as(CHARGES).fetch_all(&mut *tx).await?,
            issued: sqlx::query_as(ISSUED).bind(0i64).fetch_all(&mut *tx).await?,
            redeemed: sqlx::query_as(REDEEMED).fetch_all(&mut *tx).await?,
            labels: sqlx::query_as(LABELS).fetch_all(&mut *tx).await?,
            secrets: sqlx::query_as(SECRETS).fetch_all(&mut *tx).await?,
            grants: sqlx::query_as(GRANTS).fetch_all(&mut *tx).await?,
        })
    }

    /// From now on nobody uses this file.
    pub(in crate::store) async fn mark_moved(
        mut self,
        target: &str,
        now: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM moved").execute(&mut *self.0).await?;
        sqlx::query("INSERT INTO moved (moved_at, target) VALUES (?1, ?2)")
            .bind(now as i64)
            .bind(target)
            .execute(&mut *self.0)
            .await?;
        Ok(self.0.commit().await?)
    }
}
