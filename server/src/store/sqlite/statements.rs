//! Statements of keys in SQLite.

use sqlx::Connection;
use tocyn_protocol::statement::tree::EpochTree;

use super::{SqliteStore, StoreError};
use crate::store::StoredStatement;

impl SqliteStore {
    pub(in crate::store) async fn statements(&self) -> Result<Vec<StoredStatement>, StoreError> {
        let all = sqlx::query_as("SELECT serial, note, since FROM statements ORDER BY serial");
        Ok(all.fetch_all(&self.readers).await?)
    }

    pub(in crate::store) async fn statement_leaves(
        &self,
        serial: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let leaves = sqlx::query_scalar("SELECT leaves FROM statements WHERE serial = ?1");
        Ok(leaves.bind(serial as i64).fetch_one(&self.readers).await?)
    }

    pub(in crate::store) async fn add_statement(
        &self,
        serial: u64,
        note: &str,
        tree: &EpochTree,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let added = sqlx::query(
            "INSERT INTO statements (serial, note, since, leaves)
             SELECT ?1, ?2, head, ?3 FROM log WHERE ?1 = (SELECT count(*) FROM statements)",
        )
        .bind(serial as i64)
        .bind(note)
        .bind(tree.leaves())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(added.rows_affected() == 1)
    }
}
