//! Counting, and checking all of the tables.

use sqlx::{AssertSqlSafe, Row};

use super::open::check_server;
use super::{PostgresStore, StoreError, in_time, unsigned};
use crate::store::report::{SpentInEpoch, Stats, broken, rules, sealed_bytes};
use tocyn_protocol::pairing::Pairing;
use tocyn_service::doctor::Standing;

impl PostgresStore {
    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let range = self.range().await?;
        let mut connection = in_time(self.connect()).await?;
        let row = sqlx::query(
            "SELECT cell_bytes::bigint, closed_below, (SELECT count(*) FROM blocks) AS blocks,
                 (SELECT count(*) FROM bundles) AS bundles,
                 (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                  WHERE relkind = 'r' AND relnamespace =
                      (SELECT relnamespace FROM pg_class WHERE oid = 'log'::regclass)) AS bytes
             FROM log",
        )
        .fetch_one(&mut connection)
        .await?;
        let number = |name: &str| row.try_get(name).map(unsigned);
        let spent: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT epoch, count(*) FROM spent, log WHERE epoch >= closed_below
             GROUP BY epoch ORDER BY epoch",
        )
        .fetch_all(&mut connection)
        .await?;
        let in_epoch =
            |(epoch, tokens)| SpentInEpoch { epoch: unsigned(epoch), tokens: unsigned(tokens) };
        let (bundles, cell_bytes) = (number("bundles")?, number("cell_bytes")?);
        Ok(Stats {
            oldest: range.oldest,
            head: range.head,
            blocks: number("blocks")?,
            bundles,
            cell_bytes,
            closed_below: number("closed_below")?,
            spent: spent.into_iter().map(in_epoch).collect(),
            bytes: number("bytes")?,
            wal_bytes: 0,
            sealed_bytes: sealed_bytes(bundles, cell_bytes),
        })
    }

    pub(in crate::store) async fn pairing_id(&self) -> Result<Vec<u8>, StoreError> {
        let id = sqlx::query_scalar("SELECT pairing_id FROM log");
        Ok(self.ask(async |db| id.fetch_one(db).await).await?)
    }

    pub(in crate::store) async fn standing(
        &self,
        pairing: &Pairing,
    ) -> Result<Standing, StoreError> {
        let row = sqlx::query_as(
            "SELECT pairing_id, EXISTS (SELECT 1 FROM retired_pairings WHERE pairing_id = $1) FROM log",
        );
        let row = row.bind(pairing.id().0);
        let (in_use, retired): (Vec<u8>, bool) =
            self.ask(async |db| row.fetch_one(db).await).await?;
        Ok(Standing::of(&in_use, pairing, retired))
    }

    pub(crate) async fn check(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = in_time(self.connect()).await?;
        let mut faults: Vec<String> =
            check_server(&mut connection).await.err().into_iter().collect();
        let (bytes, expected) = ("octet_length(cells)", "messages * cell_bytes");
        for (rule, query) in rules(bytes, expected, "spent") {
            let sequences: Vec<i64> =
                sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await?;
            faults.extend(broken(rule, &sequences));
        }
        let unlogged: Vec<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class WHERE relpersistence <> 'p'
             AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'log'::regclass)",
        )
        .fetch_all(&mut connection)
        .await?;
        faults.extend(unlogged.into_iter().map(|table| {
            format!("{table} is UNLOGGED: a crash of the server would empty it; ALTER TABLE {table} SET LOGGED")
        }));
        Ok(faults)
    }
}
