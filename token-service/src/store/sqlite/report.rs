//! Counting, and checking all of the file.

use super::{SqliteStore, StoreError};
use crate::store::report::{COUNTS, RULES, Stats, broken, stats};
use tocyn_service::database::wal_bytes;

impl SqliteStore {
    pub(in crate::store) async fn stats(&self) -> Result<Stats, StoreError> {
        let counts = sqlx::query_as(COUNTS).fetch_one(&self.readers).await?;
        let bytes = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let bytes = sqlx::query_scalar(bytes).fetch_one(&self.readers).await?;
        Ok(stats(counts, bytes, wal_bytes(&self.file())))
    }

    pub(in crate::store) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let pages: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.readers).await?;
        let mut faults: Vec<String> = pages.into_iter().filter(|line| line != "ok").collect();
        for (rule, query) in RULES {
            faults.extend(broken(rule, sqlx::query_scalar(query).fetch_one(&self.readers).await?));
        }
        Ok(faults)
    }
}
