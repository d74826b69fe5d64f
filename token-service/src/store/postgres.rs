//! PostgreSQL: any number of issuers with the same vouchers. Charges of one voucher follow one
//! another because each locks its row.

mod charge;
mod copy;
mod open;
mod report;
mod secrets;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Postgres};
use tocyn_protocol::pairing::Epoch;

pub(super) use copy::Target;
pub(super) use open::Tables;

use super::bound::{self, Bound};
use super::issued::{ISSUED, IssuedRow, REDEEMED, REPORT};
use super::labels::{LABEL, LABELS};
use super::{Hash, StoreError, VOUCHER, VOUCHERS, VoucherRecord, VoucherRow};
use crate::attester::Attester;

/// How long a connection or a statement may take before it is given up. Locks are given up sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far clocks may be apart, as for epochs.
const CLOCK_TOLERANCE_SECONDS: u64 = 60;
/// Charges that one transaction of [`PostgresStore::prune`] deletes.
const PRUNE_CHARGES: i64 = 10_000;

/// What begins a transaction. Whoever is stopped in its midst keeps others from the vouchers in it
/// for two seconds, then the server ends it; and nobody waits longer than five for a lock.
/// A table that has just been made looks small to the planner when it is not any more, so plans
/// that read all of it are out of the question. Where there is no other one it counts as so dear
/// that the server would compile it, which takes longer than running it: hence no `jit`.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'; \
     SET LOCAL lock_timeout = '5s'; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; \
     SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A database on a server.
#[derive(Clone)]
pub(super) struct PostgresStore(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// The pairing that this store charges under, once it is bound to one.
    bound: OnceLock<Bound>,
}

impl PostgresStore {
    async fn lend(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent(Some(self.0.pool.acquire().await?)))
    }

    pub(super) async fn close(&self) {
        self.0.pool.close().await;
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let bound = sqlx::query_as(bound::STORED).fetch_one(&mut *lent).await?;
            lent.release();
            self.check_pairing(&bound)
        })
        .await
    }

    /// Changes the issuer's row to itself: a standby, and a server that may not write, refuse that.
    pub(super) async fn try_write(&self) -> Result<(), StoreError> {
        self.do_one(sqlx::query("UPDATE issuer SET closed_below = closed_below")).await.map(drop)
    }

    pub(super) async fn finds(&self, code_hash: &Hash) -> Result<bool, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let query = sqlx::query("SELECT 1 FROM vouchers WHERE code_hash = $1").bind(code_hash);
            let found = query.fetch_optional(&mut *lent).await?;
            lent.release();
            Ok(found.is_some())
        })
        .await
    }

    pub(super) async fn was_charged(
        &self,
        code_hash: &Hash,
        body_hash: &Hash,
    ) -> Result<bool, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let query = sqlx::query(
                "SELECT 1 FROM charges WHERE body_hash = $2
                 AND voucher_id = (SELECT id FROM vouchers WHERE code_hash = $1)",
            );
            let found = query.bind(code_hash).bind(body_hash).fetch_optional(&mut *lent).await?;
            lent.release();
            Ok(found.is_some())
        })
        .await
    }

    pub(super) async fn create_vouchers(
        &self,
        code_hashes: &[Hash],
        attester: Attester,
        tokens: u64,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            sqlx::query(
                "INSERT INTO vouchers (code_hash, granted, balance, expires_at, attester)
                 SELECT hash, $2, $2, $3, $4::bigint
                 FROM unnest($1::bytea[]) WITH ORDINALITY AS v (hash, place)
                 ORDER BY place ON CONFLICT DO NOTHING",
            )
            .bind(code_hashes)
            .bind(signed(tokens)?)
            .bind(signed(expires_at)?)
            .bind(attester as i64)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            lent.release();
            Ok(())
        })
        .await
    }

    pub(super) async fn make_account(&self, attester: Attester) -> Result<(), StoreError> {
        self.do_one(
            sqlx::query(
                "INSERT INTO vouchers (code_hash, granted, balance, expires_at, attester)
                 VALUES ($1, 0, 0, $2, $3::bigint) ON CONFLICT DO NOTHING",
            )
            .bind(attester.account())
            .bind(i64::MAX)
            .bind(attester as i64),
        )
        .await
        .map(drop)
    }

    pub(super) async fn issued(&self, from: Epoch) -> Result<Vec<IssuedRow>, StoreError> {
        self.read_all(sqlx::query_as(ISSUED).bind(signed(from)?)).await
    }

    pub(super) async fn redeemed(&self) -> Result<Vec<(i64, i64, i64)>, StoreError> {
        self.read_all(sqlx::query_as(REDEEMED)).await
    }

    pub(super) async fn report_redeemed(
        &self,
        epoch: Epoch,
        tokens: u64,
        corrects: bool,
        now: u64,
    ) -> Result<u64, StoreError> {
        let report = sqlx::query(REPORT).bind(signed(epoch)?).bind(signed(tokens)?);
        self.do_one(report.bind(signed(now)?).bind(corrects)).await
    }

    pub(super) async fn put_label(&self, voucher: &[u8], label: &str) -> Result<(), StoreError> {
        self.do_one(sqlx::query(LABEL).bind(voucher).bind(label)).await.map(drop)
    }

    pub(super) async fn labels(&self) -> Result<Vec<(Vec<u8>, String)>, StoreError> {
        self.read_all(sqlx::query_as(LABELS)).await
    }

    /// One statement in a transaction of its own: how many rows it changed.
    async fn do_one<'q>(
        &self,
        statement: sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            let rows = statement.execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
            lent.release();
            Ok(rows)
        })
        .await
    }

    async fn read_all<'q, T>(
        &self,
        query: sqlx::query::QueryAs<'q, Postgres, T, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        in_time(async {
            let mut lent = self.lend().await?;
            let rows = query.fetch_all(&mut *lent).await?;
            lent.release();
            Ok(rows)
        })
        .await
    }

    pub(super) async fn voucher(&self, code_hash: &Hash) -> Result<Option<VoucherRow>, StoreError> {
        let rows = self.read_all(sqlx::query_as(VOUCHER).bind(code_hash)).await?;
        Ok(rows.into_iter().next().and_then(VoucherRecord::row))
    }

    pub(super) async fn list_vouchers(&self) -> Result<Vec<VoucherRow>, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let records: Vec<VoucherRecord> =
                sqlx::query_as(VOUCHERS).fetch_all(&mut *lent).await?;
            lent.release();
            Ok(records.into_iter().filter_map(VoucherRecord::row).collect())
        })
        .await
    }

    pub(super) async fn revoke_voucher(
        &self,
        hash_prefix: &[u8],
        now: u64,
    ) -> Result<u64, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            // In the order of ids, as charges lock them.
            let revoked = sqlx::query(
                "UPDATE vouchers SET revoked_at = coalesce(revoked_at, $2)
                 FROM (SELECT id FROM vouchers WHERE substr(code_hash, 1, octet_length($1)) = $1 AND attester < 3
                       ORDER BY id FOR NO KEY UPDATE) AS found
                 WHERE vouchers.id = found.id",
            )
            .bind(hash_prefix)
            .bind(signed(now)?)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            lent.release();
            Ok(revoked.rows_affected())
        })
        .await
    }

    pub(super) async fn check_clock(&self, now: u64) -> Result<(), StoreError> {
        let clock = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint");
        let theirs: i64 = in_time(async {
            let mut lent = self.lend().await?;
            let theirs = clock.fetch_one(&mut *lent).await?;
            lent.release();
            Ok::<_, sqlx::Error>(theirs)
        })
        .await?;
        match now as i64 - theirs {
            seconds if seconds.unsigned_abs() <= CLOCK_TOLERANCE_SECONDS => Ok(()),
            seconds => Err(StoreError::Clock { seconds }),
        }
    }

    /// First nobody charges under those epochs any more, for good; then their charges go, in
    /// transactions of moderate size.
    pub(super) async fn prune(&self, oldest_epoch: Epoch) -> Result<u64, StoreError> {
        let oldest_epoch = signed(oldest_epoch)?;
        let close = "UPDATE issuer SET closed_below = $1 WHERE closed_below < $1";
        self.prune_step("FOR NO KEY UPDATE", sqlx::query(close).bind(oldest_epoch)).await?;
        let mut pruned = 0;
        loop {
            let some = sqlx::query(
                "DELETE FROM charges WHERE ctid = ANY
                     (ARRAY(SELECT ctid FROM charges WHERE epoch < $1 LIMIT $2))",
            );
            let some = some.bind(oldest_epoch).bind(PRUNE_CHARGES);
            match self.prune_step("FOR KEY SHARE", some).await? {
                0 => return Ok(pruned),
                charges => pruned += charges,
            }
        }
    }

    /// One transaction, if the pairing is still this one: a new one has epochs of the same numbers.
    async fn prune_step<'q>(
        &self,
        lock: &'static str,
        step: sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64, StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            let bound = AssertSqlSafe(format!("{} {lock}", bound::STORED));
            self.check_pairing(&sqlx::query_as(bound).fetch_one(&mut *tx).await?)?;
            let done = step.execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
            lent.release();
            Ok(done)
        })
        .await
    }

    /// Refuses if the database has been bound to another pairing since this store was.
    fn check_pairing(&self, stored: &bound::Stored) -> Result<(), StoreError> {
        match self.0.bound.get() {
            Some(mine) if !mine.is(stored) => Err(StoreError::PairingReplaced),
            _ => Ok(()),
        }
    }
}

/// A connection out of the pool. It goes back only when it is released: one that is dropped in the
/// midst of a statement, after an error or because time ran out, is closed. The pool would first
/// talk to it, and over a dead network wait for ever.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("it is not released yet")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is not released yet")
    }
}

/// Gives up what takes too long. A commit that was sent may still be carried out.
async fn in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

/// PostgreSQL has no unsigned numbers.
fn signed(value: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(value).map_err(|error| sqlx::Error::Encode(error.into()))
}
