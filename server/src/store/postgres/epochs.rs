//! A partition of spent tokens for each epoch: made ahead, dropped whole.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tocyn_protocol::pairing::Epoch;

use super::{PostgresStore, StoreError, in_time, unsigned};

/// Times that a drop is tried in passing, before the one try that waits.
const BRIEF_TRIES: usize = 5;

/// The epochs that have partitions, below `$1`.
const PARTITIONS: &str = "SELECT substr(child.relname, 7)::bigint AS epoch
    FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = 'spent'::regclass AND substr(child.relname, 7)::bigint < $1
    ORDER BY epoch";

impl PostgresStore {
    /// Makes the partitions that are missing, but for closed epochs. Under the lock on the log, so
    /// that several relays do it one after the other.
    pub(crate) async fn prepare_epochs(&self, epochs: &[Epoch]) -> Result<(), StoreError> {
        let missing = sqlx::query_scalar::<_, i64>(
            "SELECT DISTINCT epoch FROM unnest($1::bigint[]) AS epoch
             WHERE to_regclass('spent_' || epoch) IS NULL ORDER BY epoch",
        )
        .bind(epochs.iter().map(|epoch| *epoch as i64).collect::<Vec<_>>());
        in_time(async {
            let mut connection = self.connect().await?;
            let missing = missing.fetch_all(&mut connection).await?;
            if missing.is_empty() {
                return Ok(());
            }
            let mut tx = connection.begin_with(BEGIN).await?;
            // The set before the log, as posts lock them.
            sqlx::raw_sql("LOCK TABLE spent IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut *tx).await?;
            let closed_below = self.lock_log(&mut tx).await?;
            for epoch in missing.into_iter().filter(|epoch| *epoch >= closed_below) {
                // Attached rather than created as a partition: that locks nobody out.
                let make = format!(
                    "CREATE TABLE IF NOT EXISTS spent_{epoch} (LIKE spent INCLUDING ALL);
                     DO $$ BEGIN
                         IF NOT (SELECT relispartition FROM pg_class WHERE oid = 'spent_{epoch}'::regclass)
                         THEN ALTER TABLE spent ATTACH PARTITION spent_{epoch} FOR VALUES IN ({epoch});
                         END IF;
                     END $$"
                );
                sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    pub(crate) async fn close_epochs_below(&self, epoch: Epoch) -> Result<Vec<Epoch>, StoreError> {
        let limit = epoch.min(i64::MAX as u64) as i64;
        let open = sqlx::query_scalar::<_, i64>(PARTITIONS).bind(limit);
        // First none of their tokens is taken any more, for good; then their rows may go.
        let epochs = in_time(async {
            let mut connection = self.connect().await?;
            let epochs = open.fetch_all(&mut connection).await?;
            let Some(newest) = epochs.last() else { return Ok(epochs) };
            let mut tx = connection.begin_with(BEGIN).await?;
            self.lock_log(&mut tx).await?;
            sqlx::query("UPDATE log SET closed_below = greatest(closed_below, $1)")
                .bind(newest + 1)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok::<_, StoreError>(epochs)
        })
        .await?;
        let mut dropped = Vec::new();
        for epoch in epochs {
            match self.drop_partition(epoch).await {
                Ok(()) => dropped.push(unsigned(epoch)),
                // None of its tokens is taken; what is left of it goes another time.
                Err(StoreError::Busy) => tracing::info!(
                    epoch,
                    "a closed epoch's spent set is in use, perhaps by a backup; it will be tried again"
                ),
                Err(error) => return Err(error),
            }
        }
        Ok(dropped)
    }

    /// Needs the set for itself for a moment: waits a little for posts under way, lets others
    /// pass, and tries again. The last try waits long enough for the server to end an autovacuum
    /// that is in the way (`deadlock_timeout`, by default a second).
    async fn drop_partition(&self, epoch: i64) -> Result<(), StoreError> {
        for _ in 0..BRIEF_TRIES {
            match in_time(self.try_drop(epoch, "100ms")).await {
                Err(StoreError::Busy) => tokio::time::sleep(Duration::from_millis(50)).await,
                done => return done,
            }
        }
        in_time(self.try_drop(epoch, "1500ms")).await
    }

    async fn try_drop(&self, epoch: i64, lock_timeout: &str) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let mut tx = connection.begin_with(BEGIN).await?;
        // The set before the log, as posts lock them.
        let drop = format!(
            "SET LOCAL lock_timeout = '{lock_timeout}'; DROP TABLE IF EXISTS spent_{epoch}"
        );
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *tx).await?;
        // This process may have been stopped since it closed the epoch, and the pairing renewed,
        // with epochs of the same numbers.
        if epoch < self.lock_log(&mut tx).await? {
            tx.commit().await?;
        }
        Ok(())
    }

    /// Locks the log's row, if it is of this relay's pairing; gives `closed_below`.
    async fn lock_log(&self, tx: &mut PgConnection) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT pairing_id, closed_below FROM log FOR NO KEY UPDATE")
            .fetch_one(tx)
            .await?;
        match row.try_get::<[u8; 32], _>("pairing_id")? == self.0.pairing_id {
            true => Ok(row.try_get("closed_below")?),
            false => Err(StoreError::PairingReplaced),
        }
    }
}

/// Forgets every epoch: for a new pairing, whose tokens no old nonce can meet. The set is locked
/// before the log, as in posts.
pub(super) async fn clear(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let epochs =
        sqlx::query_scalar::<_, i64>(PARTITIONS).bind(i64::MAX).fetch_all(&mut *tx).await?;
    for epoch in epochs {
        let drop = AssertSqlSafe(format!("DROP TABLE spent_{epoch}"));
        sqlx::raw_sql(drop).execute(&mut *tx).await?;
    }
    sqlx::query("UPDATE log SET closed_below = 0").execute(tx).await?;
    Ok(())
}

/// What begins a transaction that comes from here: whoever is stopped in its midst loses it.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'; \
     SET LOCAL lock_timeout = '5s'";
