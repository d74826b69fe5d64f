//! Charging in SQLite. Rows go in and out as JSON: the text of a statement does not depend on how
//! many there are.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;

use super::{SqliteStore, StoreError};
use crate::attester::Attester;
use crate::store::charge::{Charge, Charged, Ledger, Request, RequestState, Rules, Tally, Voucher};
use crate::store::issued::{ISSUED, IssuedRow, attester, issued_row};

impl SqliteStore {
    pub(in crate::store) async fn charge_batch(
        &self,
        charges: &[Charge],
        rules: Rules,
        now: u64,
    ) -> Result<(Vec<Charged>, Tally), StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut ledger = read(&mut tx, charges).await?;
        if !rules.budgets.is_unbounded() {
            ledger.issued = read_issued(&mut tx, charges).await?;
        }
        let outcomes = ledger.charge_all(charges, rules, now);
        write(&ledger, &mut tx).await?;
        tx.commit().await?;
        Ok((outcomes, ledger.tally()))
    }
}

async fn read(tx: &mut SqliteConnection, charges: &[Charge]) -> Result<Ledger, sqlx::Error> {
    let asked = charges.iter().map(|c| (hex::encode(c.code_hash), hex::encode(c.body_hash)));
    let asked: Vec<_> = asked.collect();
    let rows = sqlx::query(
        "SELECT asked.key AS at, (SELECT closed_below FROM issuer) AS closed_below,
             v.id, v.attester, v.granted, v.refilled_epoch, v.balance, v.expires_at, v.revoked_at,
             c.epoch, c.replays, c.window_start
         FROM json_each(?1) AS asked
         JOIN vouchers AS v ON v.code_hash = unhex(asked.value ->> 0)
         LEFT JOIN charges AS c ON c.voucher_id = v.id
             AND c.body_hash = unhex(asked.value ->> 1)",
    )
    .bind(json(&asked))
    .fetch_all(tx)
    .await?;
    let mut ledger = Ledger::default();
    for row in rows {
        let asked = &charges[row.try_get::<i64, _>("at")? as usize];
        ledger.closed_below = row.try_get::<i64, _>("closed_below")? as u64;
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
        let voucher = ledger.vouchers.entry(asked.code_hash).or_insert(voucher);
        if let Some(epoch) = row.try_get::<Option<i64>, _>("epoch")? {
            let request = Request {
                epoch: epoch as u64,
                tokens: asked.tokens,
                replays: row.try_get::<i64, _>("replays")? as u64,
                window_start: row.try_get::<i64, _>("window_start")? as u64,
                state: RequestState::Unchanged,
            };
            voucher.requests.insert(asked.body_hash, request);
        }
    }
    Ok(ledger)
}

/// What was handed out under the keys that are asked for.
async fn read_issued(
    tx: &mut SqliteConnection,
    charges: &[Charge],
) -> Result<HashMap<(Epoch, Attester), u64>, sqlx::Error> {
    let oldest = charges.iter().filter_map(|charge| charge.epoch).min().unwrap_or(0);
    let rows: Vec<IssuedRow> = sqlx::query_as(ISSUED).bind(oldest as i64).fetch_all(tx).await?;
    rows.into_iter().map(issued_row).collect()
}

/// Writes what changed. The database has the last word: a balance has a `CHECK`, and a
/// request that is new is a new primary key, or the transaction fails.
async fn write(ledger: &Ledger, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    write_rows(
        tx,
        "INSERT INTO issued (epoch, attester, tokens)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1) WHERE true
         ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens",
        ledger.issued_now().into_iter(),
    )
    .await?;
    write_rows(
        tx,
        "UPDATE vouchers SET balance = granted, refilled_epoch = refilled.value ->> 1
         FROM json_each(?1) AS refilled WHERE vouchers.id = refilled.value ->> 0",
        ledger.refilled(),
    )
    .await?;
    write_rows(
        tx,
        "UPDATE vouchers SET balance = balance - (charged.value ->> 1)
         FROM json_each(?1) AS charged WHERE vouchers.id = charged.value ->> 0",
        ledger.charged(),
    )
    .await?;
    write_rows(
        tx,
        "INSERT INTO charges (voucher_id, body_hash, replays, window_start, epoch, tokens)
         SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4,
             value ->> 5
         FROM json_each(?1)",
        ledger.requests(RequestState::New).map(|(id, body_hash, r)| {
            (id, hex::encode(body_hash), r.replays, r.window_start, r.epoch, r.tokens)
        }),
    )
    .await?;
    write_rows(
        tx,
        "UPDATE charges
         SET replays = repeated.value ->> 2, window_start = repeated.value ->> 3
         FROM json_each(?1) AS repeated
         WHERE voucher_id = repeated.value ->> 0 AND body_hash = unhex(repeated.value ->> 1)",
        ledger
            .requests(RequestState::Repeated)
            .map(|(id, body_hash, r)| (id, hex::encode(body_hash), r.replays, r.window_start)),
    )
    .await
}

/// Runs a statement once for all rows, if there are any.
async fn write_rows<T: serde::Serialize>(
    tx: &mut SqliteConnection,
    statement: &'static str,
    rows: impl Iterator<Item = T>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<T> = rows.collect();
    if !rows.is_empty() {
        sqlx::query(statement).bind(json(&rows)).execute(tx).await?;
    }
    Ok(())
}

/// Rows as one parameter: the text of a statement does not depend on how many there are.
fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("numbers and text")
}
