//! Counting, and checking all of the tables.

use super::open::check_server;
use super::{PostgresStore, StoreError};
use crate::store::report::{COUNTS, RULES, Stats, broken, stats};

impl PostgresStore {
    pub(in crate::store) async fn stats(&self) -> Result<Stats, StoreError> {
        let mut lent = self.lend().await?;
        let counts = sqlx::query_as(COUNTS).fetch_one(&mut *lent).await?;
        let bytes = sqlx::query_scalar(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r'
             AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'issuer'::regclass)",
        );
        let bytes = bytes.fetch_one(&mut *lent).await?;
        lent.release();
        Ok(stats(counts, bytes, 0))
    }

    pub(in crate::store) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let mut lent = self.lend().await?;
        let mut faults: Vec<String> = check_server(&mut lent).await.err().into_iter().collect();
        for (rule, query) in RULES {
            faults.extend(broken(rule, sqlx::query_scalar(query).fetch_one(&mut *lent).await?));
        }
        let unlogged: Vec<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relpersistence <> 'p'
             AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'issuer'::regclass)",
        )
        .fetch_all(&mut *lent)
        .await?;
        lent.release();
        faults.extend(unlogged.into_iter().map(|table| {
            format!("{table} is UNLOGGED: a crash of the server would empty it; ALTER TABLE {table} SET LOGGED")
        }));
        Ok(faults)
    }
}
