//! The spent set: three tables that take turns, one for each epoch that can be live.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::suite::NONCE_BYTES;

use crate::rows::{runs, statement};

/// A token's 32 random bytes.
pub(crate) type Nonce = [u8; NONCE_BYTES];

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(i64);

/// A table's name cannot be a parameter, so the statements on one table are texts of their own.
macro_rules! on_table {
    ($slot:expr, $before:literal, $after:literal) => {
        match $slot.0 {
            0 => concat!($before, "spent_0", $after),
            1 => concat!($before, "spent_1", $after),
            _ => concat!($before, "spent_2", $after),
        }
    };
}

/// The slot of an epoch, emptied of the epoch that had it before. None if `epoch` is closed:
/// its spent tokens are forgotten, so none of them may be taken.
pub(crate) async fn open(
    tx: &mut SqliteConnection,
    epoch: Epoch,
) -> Result<Option<Slot>, sqlx::Error> {
    let slot = Slot((epoch % 3) as i64);
    let row = sqlx::query(
        "SELECT closed_below, epoch FROM log, spent_slots WHERE log.id = 1 AND slot = ?1",
    )
    .bind(slot.0)
    .fetch_one(&mut *tx)
    .await?;
    if epoch < row.try_get::<i64, _>("closed_below")? as u64 {
        return Ok(None);
    }
    let held = row.try_get::<Option<i64>, _>("epoch")?.map(|held| held as u64);
    match held {
        Some(held) if held == epoch => return Ok(Some(slot)),
        Some(held) if held > epoch => return Ok(None),
        Some(held) => drop(close_below(tx, held + 1).await?),
        None => {}
    }
    sqlx::query("UPDATE spent_slots SET epoch = ?2 WHERE slot = ?1")
        .bind(slot.0)
        .bind(epoch as i64)
        .execute(tx)
        .await?;
    Ok(Some(slot))
}

/// Drops every epoch below `epoch`, for good: even if the clock goes back, no token of an epoch
/// that was dropped, or of one before it, is taken again. Gives the epochs that were dropped.
pub(crate) async fn close_below(
    tx: &mut SqliteConnection,
    epoch: Epoch,
) -> Result<Vec<Epoch>, sqlx::Error> {
    let rows = sqlx::query("SELECT slot, epoch FROM spent_slots WHERE epoch < ?1 ORDER BY epoch")
        .bind(epoch as i64)
        .fetch_all(&mut *tx)
        .await?;
    let mut dropped = Vec::new();
    for row in rows {
        let (number, held): (i64, i64) = (row.try_get("slot")?, row.try_get("epoch")?);
        Slot(number).clear(&mut *tx).await?;
        sqlx::query("UPDATE spent_slots SET epoch = NULL WHERE slot = ?1")
            .bind(number)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE log SET closed_below = max(closed_below, ?1) WHERE id = 1")
            .bind(held + 1)
            .execute(&mut *tx)
            .await?;
        dropped.push(held as u64);
    }
    Ok(dropped)
}

/// Forgets every epoch: for a new pairing, whose tokens no old nonce can meet.
pub(crate) async fn clear(tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for number in 0..3 {
        Slot(number).clear(&mut *tx).await?;
    }
    sqlx::query("UPDATE spent_slots SET epoch = NULL").execute(&mut *tx).await?;
    sqlx::query("UPDATE log SET closed_below = 0 WHERE id = 1").execute(tx).await?;
    Ok(())
}

impl Slot {
    /// Without a WHERE, SQLite frees the table's pages instead of visiting its rows.
    async fn clear(self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query(on_table!(self, "DELETE FROM ", "")).execute(tx).await?;
        Ok(())
    }

    /// Those of `nonces` that are spent, each with the receipt of what it paid for.
    pub(crate) async fn receipts(
        self,
        tx: &mut SqliteConnection,
        nonces: &[Nonce],
    ) -> Result<HashMap<Nonce, PostReceipt>, sqlx::Error> {
        let mut spent = HashMap::new();
        let select = on_table!(
            self,
            "SELECT nonce, seq, received_at, message_id FROM ",
            " WHERE nonce IN ("
        );
        for run in runs(nonces) {
            let mut query = statement(select, "?", run.len(), ")");
            for nonce in run {
                query = query.bind(&nonce[..]);
            }
            for row in query.fetch_all(&mut *tx).await? {
                let receipt = PostReceipt {
                    seq: row.try_get::<i64, _>("seq")? as u64,
                    message_id: MessageId::from_bytes(array(&row, "message_id")?),
                    received_at: row.try_get::<i64, _>("received_at")? as u64,
                };
                spent.insert(array(&row, "nonce")?, receipt);
            }
        }
        Ok(spent)
    }

    /// Adds nonces, each with the receipt of what it pays for. One that is there already fails
    /// the whole transaction: the primary key decides. Sorted, so that neighbours share a page.
    pub(crate) async fn insert(
        self,
        tx: &mut SqliteConnection,
        mut rows: Vec<(Nonce, PostReceipt)>,
    ) -> Result<(), sqlx::Error> {
        rows.sort_unstable_by_key(|row| row.0);
        let insert =
            on_table!(self, "INSERT INTO ", " (nonce, seq, received_at, message_id) VALUES");
        for run in runs(&rows) {
            let mut query = statement(insert, "(?, ?, ?, ?)", run.len(), "");
            for (nonce, receipt) in run {
                query = query
                    .bind(&nonce[..])
                    .bind(receipt.seq as i64)
                    .bind(receipt.received_at as i64)
                    .bind(&receipt.message_id.as_bytes()[..]);
            }
            query.execute(&mut *tx).await?;
        }
        Ok(())
    }
}

fn array(row: &SqliteRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| sqlx::Error::Decode(format!("{column} is damaged").into()))
}
