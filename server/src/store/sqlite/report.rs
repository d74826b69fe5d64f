//! Counting, and checking all of the file.

use sqlx::{AssertSqlSafe, Row};

use super::spent::{SLOTS, all_of_slot};
use super::{SqliteStore, StoreError};
use crate::store::report::{SpentInEpoch, Stats, broken, rules, sealed_bytes};
use tocyn_protocol::pairing::Pairing;
use tocyn_service::database::wal_bytes;
use tocyn_service::doctor::Standing;

impl SqliteStore {
    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let range = self.range().await?;
        let row = sqlx::query(
            "SELECT cell_bytes, closed_below, (SELECT count(*) FROM blocks) AS blocks,
                 (SELECT count(*) FROM bundles) AS bundles,
                 (SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()) AS bytes
             FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        let number = |name: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(name)? as u64);
        let mut spent = Vec::new();
        for slot in 0..SLOTS {
            let query = format!(
                "SELECT epoch, (SELECT count(*) FROM {}) FROM spent_slots, log
                 WHERE slot = {slot} AND epoch >= closed_below",
                all_of_slot(slot)
            );
            let row: Option<(i64, i64)> =
                sqlx::query_as(AssertSqlSafe(query)).fetch_optional(&self.readers).await?;
            spent.extend(row.map(|(epoch, tokens)| SpentInEpoch {
                epoch: epoch as u64,
                tokens: tokens as u64,
            }));
        }
        spent.sort_by_key(|spent| spent.epoch);
        let (bundles, cell_bytes) = (number("bundles")?, number("cell_bytes")?);
        Ok(Stats {
            oldest: range.oldest,
            head: range.head,
            blocks: number("blocks")?,
            bundles,
            cell_bytes,
            closed_below: number("closed_below")?,
            spent,
            bytes: number("bytes")?,
            wal_bytes: wal_bytes(&self.file()),
            sealed_bytes: sealed_bytes(bundles, cell_bytes),
        })
    }

    pub(in crate::store) async fn pairing_id(&self) -> Result<Vec<u8>, StoreError> {
        let id = sqlx::query_scalar("SELECT pairing_id FROM log");
        Ok(id.fetch_one(&self.readers).await?)
    }

    pub(in crate::store) async fn standing(
        &self,
        pairing: &Pairing,
    ) -> Result<Standing, StoreError> {
        let row = sqlx::query(
            "SELECT pairing_id, EXISTS (SELECT 1 FROM retired_pairings WHERE pairing_id = ?1) AS retired
             FROM log",
        );
        let row = row.bind(&pairing.id().0[..]).fetch_one(&self.readers).await?;
        let in_use: Vec<u8> = row.try_get("pairing_id")?;
        Ok(Standing::of(&in_use, pairing, row.try_get("retired")?))
    }

    pub(crate) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let pages: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.readers).await?;
        let mut faults: Vec<String> = pages.into_iter().filter(|line| line != "ok").collect();
        let all: Vec<String> = (0..SLOTS).map(all_of_slot).collect();
        let spent = format!("(SELECT * FROM {})", all.join(" UNION ALL SELECT * FROM "));
        for (rule, query) in rules("length(frames)", "messages * (8 + cell_bytes)", &spent) {
            let sequences: Vec<i64> =
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&self.readers).await?;
            faults.extend(broken(rule, &sequences));
        }
        Ok(faults)
    }
}
