//! Statements of keys in PostgreSQL.

use std::sync::atomic::Ordering;

use sqlx::Connection;

use tocyn_protocol::statement::tree::EpochTree;

use super::epochs::BEGIN;
use super::{PostgresStore, StoreError, in_time};
use crate::store::StoredStatement;

impl PostgresStore {
    pub(in crate::store) async fn statements(&self) -> Result<Vec<StoredStatement>, StoreError> {
        let all = sqlx::query_as("SELECT serial, note, since FROM statements ORDER BY serial");
        Ok(self.ask_for_log(async |db| all.fetch_all(db).await).await?)
    }

    pub(in crate::store) async fn statement_leaves(
        &self,
        serial: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let leaves = sqlx::query_scalar("SELECT leaves FROM statements WHERE serial = $1");
        let leaves = leaves.bind(serial as i64);
        Ok(self.ask_for_log(async |db| leaves.fetch_one(db).await).await?)
    }

    /// Under the lock on the log's row: whoever appends after this one hears of it.
    pub(in crate::store) async fn add_statement(
        &self,
        serial: u64,
        note: &str,
        tree: &EpochTree,
    ) -> Result<bool, StoreError> {
        in_time(async {
            let mut connection = self.connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::raw_sql("SET LOCAL synchronous_commit = on").execute(&mut *tx).await?;
            let head: Option<i64> = sqlx::query_scalar(
                "SELECT head FROM log WHERE pairing_id = $1 AND keys_serial = $2 FOR NO KEY UPDATE",
            )
            .bind(self.0.pairing_id)
            .bind(serial as i64 - 1)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(head) = head else { return Ok(false) };
            let insert =
                "INSERT INTO statements (serial, note, since, leaves) VALUES ($1, $2, $3, $4)";
            sqlx::query(insert)
                .bind(serial as i64)
                .bind(note)
                .bind(head)
                .bind(tree.leaves())
                .execute(&mut *tx)
                .await?;
            let tell = sqlx::query("UPDATE log SET keys_serial = $1, keys_root = $2");
            tell.bind(serial as i64).bind(tree.root().0).execute(&mut *tx).await?;
            tx.commit().await?;
            self.saw_statement(serial as i64);
            Ok(true)
        })
        .await
    }

    pub(in crate::store) fn sign_for(&self, root: [u8; 32]) {
        let _ = self.0.keys_root.set(root);
    }

    pub(in crate::store) fn statements_heard_of(&self) -> u64 {
        self.0.statements.load(Ordering::Relaxed)
    }
}
