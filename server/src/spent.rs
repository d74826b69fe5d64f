//! The spent set: three tables that take turns, one for each epoch that can be live.

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::suite::NONCE_BYTES;

/// The SQL of one table; a table's name cannot be a parameter.
pub(crate) struct Slot {
    number: i64,
    insert: &'static str,
    select: &'static str,
    clear: &'static str,
}

macro_rules! slot {
    ($number:literal, $table:literal) => {
        Slot {
            number: $number,
            insert: concat!(
                "INSERT INTO ",
                $table,
                " (nonce, seq, received_at, message_id) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING"
            ),
            select: concat!(
                "SELECT seq, received_at, message_id FROM ",
                $table,
                " WHERE nonce = ?1"
            ),
            // Without a WHERE, SQLite frees the table's pages instead of visiting its rows.
            clear: concat!("DELETE FROM ", $table),
        }
    };
}

static SLOTS: [Slot; 3] = [slot!(0, "spent_0"), slot!(1, "spent_1"), slot!(2, "spent_2")];

/// The slot of an epoch, emptied of the epoch that had it before. None if `epoch` is closed:
/// its spent tokens are forgotten, so none of them may be taken.
pub(crate) async fn open(
    tx: &mut SqliteConnection,
    epoch: Epoch,
) -> Result<Option<&'static Slot>, sqlx::Error> {
    let slot = &SLOTS[(epoch % 3) as usize];
    let row = sqlx::query(
        "SELECT closed_below, epoch FROM log, spent_slots WHERE log.id = 1 AND slot = ?1",
    )
    .bind(slot.number)
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
        .bind(slot.number)
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
        sqlx::query(SLOTS[number as usize].clear).execute(&mut *tx).await?;
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
    for slot in &SLOTS {
        sqlx::query(slot.clear).execute(&mut *tx).await?;
    }
    sqlx::query("UPDATE spent_slots SET epoch = NULL").execute(&mut *tx).await?;
    sqlx::query("UPDATE log SET closed_below = 0 WHERE id = 1").execute(tx).await?;
    Ok(())
}

impl Slot {
    /// Adds a nonce with the receipt of what it pays for; false if it is there already. The
    /// primary key decides.
    pub(crate) async fn insert(
        &self,
        tx: &mut SqliteConnection,
        nonce: &[u8; NONCE_BYTES],
        receipt: &PostReceipt,
    ) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(self.insert)
            .bind(&nonce[..])
            .bind(receipt.seq as i64)
            .bind(receipt.received_at as i64)
            .bind(&receipt.message_id.as_bytes()[..])
            .execute(tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The receipt of what a spent nonce paid for.
    pub(crate) async fn receipt(
        &self,
        tx: &mut SqliteConnection,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<PostReceipt, sqlx::Error> {
        let row = sqlx::query(self.select).bind(&nonce[..]).fetch_one(tx).await?;
        let id: Vec<u8> = row.try_get("message_id")?;
        let id = id.try_into().map_err(|_| sqlx::Error::Decode("message_id".into()))?;
        Ok(PostReceipt {
            seq: row.try_get::<i64, _>("seq")? as u64,
            message_id: MessageId::from_bytes(id),
            received_at: row.try_get::<i64, _>("received_at")? as u64,
        })
    }
}
