//! Charging in PostgreSQL. Rows go in as arrays: the text of a statement does not depend on how many
//! there are.

use std::collections::{BTreeSet, HashMap};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tocyn_protocol::pairing::Epoch;

use super::{BEGIN, PostgresStore, StoreError, in_time, signed};
use crate::attester::Attester;
use crate::store::Hash;
use crate::store::bound;
use crate::store::charge::{Charge, Charged, Ledger, Request, RequestState, Rules, Tally, Voucher};
use crate::store::issued::{IssuedRow, attester, issued_row};

impl PostgresStore {
    pub(in crate::store) async fn charge_batch(
        &self,
        charges: &[Charge],
        rules: Rules,
        now: u64,
    ) -> Result<(Vec<Charged>, Tally), StoreError> {
        in_time(async {
            let mut lent = self.lend().await?;
            let mut tx = lent.begin_with(BEGIN).await?;
            let mut ledger = self.read(&mut tx, charges).await?;
            let outcomes = ledger.charge_all(charges, rules, now);
            write(&ledger, &mut tx).await?;
            tx.commit().await?;
            lent.release();
            Ok((outcomes, ledger.tally()))
        })
        .await
    }

    /// Holds on to the pairing, and locks the vouchers, all in the same order, so that nobody waits in a circle; then reads
    /// what was charged to them. The second statement sees whatever was committed while the first
    /// one waited.
    async fn read(&self, tx: &mut PgConnection, charges: &[Charge]) -> Result<Ledger, StoreError> {
        let bound = AssertSqlSafe(format!("{} FOR KEY SHARE", bound::STORED));
        self.check_pairing(&sqlx::query_as(bound).fetch_one(&mut *tx).await?)?;
        // Also without budgets: another issuer may have them, and locks in this order.
        let issued = lock_issued(tx, charges).await?;
        let mut ledger = Ledger { issued, ..Ledger::default() };
        let code_hashes: Vec<Hash> = charges.iter().map(|charge| charge.code_hash).collect();
        let rows = sqlx::query(
            "SELECT id, code_hash, attester::bigint AS attester, granted, refilled_epoch, balance,
                 expires_at, revoked_at FROM vouchers
             WHERE code_hash = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
        )
        .bind(code_hashes)
        .fetch_all(&mut *tx)
        .await?;
        for row in rows {
            let voucher = Voucher {
                id: row.try_get("id")?,
                attester: attester(row.try_get("attester")?)?,
                granted: row.try_get::<i64, _>("granted")? as u64,
                refilled: row.try_get::<i64, _>("refilled_epoch")?.try_into().ok(),
                refilled_now: false,
                balance: row.try_get::<i64, _>("balance")? as u64,
                expires_at: row.try_get::<i64, _>("expires_at")? as u64,
                revoked: row.try_get::<Option<i64>, _>("revoked_at")?.is_some(),
                charged_now: 0,
                requests: HashMap::new(),
            };
            ledger.vouchers.insert(row.try_get("code_hash")?, voucher);
        }
        let asked: Vec<(&Charge, i64)> = charges
            .iter()
            .filter_map(|charge| Some((charge, ledger.vouchers.get(&charge.code_hash)?.id)))
            .collect();
        // closed_below is of the same moment as the charges. If it were older, charges that were
        // forgotten in between would be made again.
        let rows = sqlx::query(
            "SELECT closed_below, place, epoch, replays, window_start
             FROM issuer LEFT JOIN (
                 SELECT asked.place, c.* FROM unnest($1::bigint[], $2::bytea[])
                     WITH ORDINALITY AS asked (id, body_hash, place)
                 CROSS JOIN LATERAL (
                     SELECT epoch, replays, window_start FROM charges
                     WHERE voucher_id = asked.id AND charges.body_hash = asked.body_hash OFFSET 0
                 ) AS c
             ) AS charged ON true",
        )
        .bind(asked.iter().map(|(_, id)| *id).collect::<Vec<_>>())
        .bind(asked.iter().map(|(charge, _)| charge.body_hash).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
        for row in rows {
            ledger.closed_below = row.try_get::<i64, _>("closed_below")? as u64;
            let Some(place) = row.try_get::<Option<i64>, _>("place")? else { continue };
            let charge = asked[place as usize - 1].0;
            let request = Request {
                epoch: row.try_get::<i64, _>("epoch")? as u64,
                tokens: charge.tokens,
                replays: row.try_get::<i64, _>("replays")? as u64,
                window_start: row.try_get::<i64, _>("window_start")? as u64,
                state: RequestState::Unchanged,
            };
            let voucher = ledger.vouchers.get_mut(&charge.code_hash);
            voucher.expect("it was found").requests.insert(charge.body_hash, request);
        }
        Ok(ledger)
    }
}

/// What was handed out under the keys that are asked for. Nobody else hands out any until this
/// transaction ends, or budgets would be overdrawn: so the rows are made first.
async fn lock_issued(
    tx: &mut PgConnection,
    charges: &[Charge],
) -> Result<HashMap<(Epoch, Attester), u64>, sqlx::Error> {
    let epochs: BTreeSet<Epoch> = charges.iter().filter_map(|charge| charge.epoch).collect();
    let epochs = epochs.into_iter().map(signed).collect::<Result<Vec<i64>, _>>()?;
    sqlx::query(
        "INSERT INTO issued (epoch, attester, tokens)
         SELECT epoch, attester, 0 FROM unnest($1::bigint[]) AS e (epoch), generate_series(0, 4) AS a (attester)
         ORDER BY epoch, attester ON CONFLICT DO NOTHING",
    )
    .bind(&epochs)
    .execute(&mut *tx)
    .await?;
    let rows: Vec<IssuedRow> = sqlx::query_as(
        "SELECT epoch, attester::bigint, tokens FROM issued WHERE epoch = ANY ($1)
         ORDER BY epoch, attester FOR NO KEY UPDATE",
    )
    .bind(&epochs)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(issued_row).collect()
}

/// Writes what changed. The database has the last word: a balance has a `CHECK`, and a
/// request that is new is a new primary key, or the transaction fails.
async fn write(ledger: &Ledger, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let issued = ledger.issued_now();
    if !issued.is_empty() {
        let (epochs, (attesters, tokens)): (Vec<i64>, (Vec<i64>, Vec<i64>)) =
            issued.into_iter().map(|(e, a, tokens)| (e as i64, (a, tokens as i64))).unzip();
        sqlx::query(
            "INSERT INTO issued (epoch, attester, tokens)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (epoch, attester, tokens)
             ORDER BY epoch, attester
             ON CONFLICT (epoch, attester) DO UPDATE SET tokens = issued.tokens + excluded.tokens",
        )
        .bind(epochs)
        .bind(attesters)
        .bind(tokens)
        .execute(&mut *tx)
        .await?;
    }
    let (refilled, epochs): (Vec<i64>, Vec<i64>) =
        ledger.refilled().map(|(id, epoch)| (id, epoch as i64)).unzip();
    if !refilled.is_empty() {
        sqlx::query(
            "UPDATE vouchers SET balance = granted, refilled_epoch = refilled.epoch
             FROM unnest($1::bigint[], $2::bigint[]) AS refilled (id, epoch)
             WHERE vouchers.id = refilled.id",
        )
        .bind(refilled)
        .bind(epochs)
        .execute(&mut *tx)
        .await?;
    }
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for (id, charged) in ledger.charged() {
        ids.push(id);
        tokens.push(signed(charged)?);
    }
    if !ids.is_empty() {
        sqlx::query(
            "UPDATE vouchers SET balance = balance - charged.tokens
             FROM unnest($1::bigint[], $2::bigint[]) AS charged (id, tokens)
             WHERE vouchers.id = charged.id",
        )
        .bind(ids)
        .bind(tokens)
        .execute(&mut *tx)
        .await?;
    }
    let new = Columns::of(ledger, RequestState::New)?;
    if !new.ids.is_empty() {
        sqlx::query(
            "INSERT INTO charges (voucher_id, body_hash, replays, window_start, epoch, tokens)
             SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[],
                 $5::bigint[], $6::bigint[]) AS new (id, body_hash) ORDER BY id, body_hash",
        )
        .bind(new.ids)
        .bind(new.body_hashes)
        .bind(new.replays)
        .bind(new.window_starts)
        .bind(new.epochs)
        .bind(new.tokens)
        .execute(&mut *tx)
        .await?;
    }
    let repeated = Columns::of(ledger, RequestState::Repeated)?;
    if !repeated.ids.is_empty() {
        sqlx::query(
            "UPDATE charges SET replays = again.replays, window_start = again.window_start
             FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[])
                 AS again (id, body_hash, replays, window_start)
             WHERE voucher_id = again.id AND charges.body_hash = again.body_hash",
        )
        .bind(repeated.ids)
        .bind(repeated.body_hashes)
        .bind(repeated.replays)
        .bind(repeated.window_starts)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Requests as columns.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    body_hashes: Vec<Hash>,
    replays: Vec<i64>,
    window_starts: Vec<i64>,
    epochs: Vec<i64>,
    tokens: Vec<i64>,
}

impl Columns {
    fn of(ledger: &Ledger, state: RequestState) -> Result<Self, sqlx::Error> {
        let mut columns = Self::default();
        for (id, body_hash, request) in ledger.requests(state) {
            columns.ids.push(id);
            columns.body_hashes.push(*body_hash);
            columns.replays.push(signed(request.replays)?);
            columns.window_starts.push(signed(request.window_start)?);
            columns.epochs.push(signed(request.epoch)?);
            columns.tokens.push(signed(request.tokens as u64)?);
        }
        Ok(columns)
    }
}
