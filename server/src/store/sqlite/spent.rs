//! The spent set: three slots that take turns, one for each epoch that can be live, three more for
//! epochs whose slot in turn is not free, and in each 16 tables, chosen by the first four bits of a
//! nonce.

use std::collections::HashMap;
use std::sync::LazyLock;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Connection, Row, SqliteConnection};
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::suite::NONCE_BYTES;

use super::writer::Writer;
use super::{Nonce, SpendOutcome};

/// Epochs that can be live at once.
const TURNS: usize = 3;
/// These, and as many more: those that are live by a clock that has jumped.
pub(super) const SLOTS: usize = 2 * TURNS;
/// Tables of a slot. With more, a closed epoch goes in shorter steps, and each commit takes more
/// statements.
const PARTS: usize = 16;
/// Rows that one statement takes: as many as the table `numbers` has.
const MAX_ROWS: usize = 1024;

/// The tables of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// The statements on one slot: names of tables cannot be parameters. Where a text has a statement
/// for each table, `$1` to `$16` are the rows for each, put together to one blob, so that a batch
/// of any size is one call.
struct Statements {
    select: String,
    insert: String,
    clear: String,
    count_part: [String; PARTS],
    clear_part: [String; PARTS],
}

static STATEMENTS: LazyLock<[Statements; SLOTS]> =
    LazyLock::new(|| std::array::from_fn(Statements::on_slot));

/// Bytes of one row for `insert`: nonce, message id, and the sequence in decimal digits, since
/// SQLite makes no number of eight bytes.
const ROW_BYTES: usize = 2 * NONCE_BYTES + SEQUENCE_DIGITS;
const SEQUENCE_DIGITS: usize = 19;

impl Statements {
    fn on_slot(slot: usize) -> Self {
        let each = |statement: &dyn Fn(&str, usize) -> String| -> [String; PARTS] {
            std::array::from_fn(|part| statement(&format!("spent_{slot}_{part:x}"), part + 1))
        };
        let select = each(&|table, blob| {
            format!(
                "SELECT nonce, seq, received_at, message_id FROM numbers CROSS JOIN {table}
                 WHERE n < length(${blob}) / 32 AND nonce = substr(${blob}, n * 32 + 1, 32);"
            )
        });
        let insert = each(&|table, blob| {
            format!(
                "INSERT INTO {table} (nonce, seq, received_at, message_id)
                 SELECT substr(${blob}, n * {ROW_BYTES} + 1, 32),
                     CAST(substr(${blob}, n * {ROW_BYTES} + 65, 19) AS INTEGER),
                     $17,
                     substr(${blob}, n * {ROW_BYTES} + 33, 32)
                 FROM numbers WHERE n < length(${blob}) / {ROW_BYTES};"
            )
        });
        // Without a WHERE, SQLite frees the table's pages instead of visiting its rows.
        let clear_part = each(&|table, _| format!("DELETE FROM {table};"));
        Self {
            select: select.concat(),
            insert: insert.concat(),
            clear: clear_part.concat(),
            count_part: each(&|table, _| format!("SELECT count(*) FROM {table}")),
            clear_part,
        }
    }
}

/// The rows of all tables of a slot, in the order of their nonces, as a table of SQL.
pub(super) fn all_of_slot(slot: usize) -> String {
    let parts: Vec<String> =
        (0..PARTS).map(|part| format!("SELECT * FROM spent_{slot}_{part:x}")).collect();
    format!("({})", parts.join(" UNION ALL "))
}

/// Rows for each table of a slot, put together.
fn by_part<T, const N: usize>(
    rows: &[T],
    nonce: impl Fn(&T) -> &Nonce,
    bytes: impl Fn(&T) -> [u8; N],
) -> [Vec<u8>; PARTS] {
    let mut parts = [const { Vec::new() }; PARTS];
    for row in rows {
        parts[usize::from(nonce(row)[0] >> 4)].extend(bytes(row));
    }
    parts
}

/// Which epochs the spent set has, as of one transaction.
pub(super) struct Slots {
    /// No token of an epoch below this is taken again.
    closed_below: Epoch,
    held: [Option<Epoch>; SLOTS],
}

impl Slots {
    /// Reads it, and the newest sequence with it.
    pub(super) async fn load(tx: &mut SqliteConnection) -> Result<(Self, u64), sqlx::Error> {
        let rows = sqlx::query("SELECT head, closed_below, slot, epoch FROM log, spent_slots")
            .fetch_all(tx)
            .await?;
        let (mut slots, mut head) = (Self { closed_below: 0, held: [None; SLOTS] }, 0);
        for row in rows {
            head = row.try_get::<i64, _>("head")? as u64;
            slots.closed_below = row.try_get::<i64, _>("closed_below")? as u64;
            let epoch = row.try_get::<Option<i64>, _>("epoch")?.map(|epoch| epoch as u64);
            slots.held[row.try_get::<i64, _>("slot")? as usize] = epoch;
        }
        Ok((slots, head))
    }

    /// The slot of an epoch. One that it did not have before is emptied of a closed epoch: no other
    /// one is closed here, since the clock that a token was taken by may have jumped.
    pub(super) async fn open(
        &mut self,
        tx: &mut SqliteConnection,
        epoch: Epoch,
    ) -> Result<Result<Slot, SpendOutcome>, sqlx::Error> {
        if epoch < self.closed_below {
            // Its spent tokens are forgotten, so none of them may be taken.
            return Ok(Err(SpendOutcome::EpochClosed));
        }
        if let Some(slot) = self.held.iter().position(|held| *held == Some(epoch)) {
            return Ok(Ok(Slot(slot)));
        }
        let is_free = |slot: &usize| self.held[*slot].is_none_or(|held| held < self.closed_below);
        let mut in_turn = std::iter::once(epoch as usize % TURNS).chain(TURNS..SLOTS);
        let Some(slot) = in_turn.find(is_free).map(Slot) else {
            return Ok(Err(SpendOutcome::NoRoom));
        };
        if self.held[slot.0].is_some() {
            // Mostly done by then: it began when the epoch was closed.
            sqlx::query(slot.statements().clear.as_str()).execute(&mut *tx).await?;
        }
        self.held[slot.0] = Some(epoch);
        slot.hold(tx, Some(epoch)).await?;
        Ok(Ok(slot))
    }
}

/// Closes every epoch below `epoch`, for good: even if the clock goes back, no token of an epoch
/// that was closed, or of one before it, is taken again. Gives the closed epochs whose slots wait
/// to be emptied.
pub(super) async fn close_below(
    tx: &mut SqliteConnection,
    epoch: Epoch,
) -> Result<Vec<(Slot, Epoch)>, sqlx::Error> {
    sqlx::query(
        "UPDATE log SET closed_below = newest + 1
         FROM (SELECT max(epoch) AS newest FROM spent_slots WHERE epoch < ?1)
         WHERE closed_below <= newest",
    )
    .bind(epoch as i64)
    .execute(&mut *tx)
    .await?;
    let rows = sqlx::query(
        "SELECT slot, epoch FROM spent_slots, log WHERE epoch < closed_below ORDER BY epoch",
    )
    .fetch_all(tx)
    .await?;
    let closed = |row: SqliteRow| {
        let (slot, epoch): (i64, i64) = (row.try_get("slot")?, row.try_get("epoch")?);
        Ok((Slot(slot as usize), epoch as u64))
    };
    rows.into_iter().map(closed).collect()
}

/// Forgets every epoch: for a new pairing, whose tokens no old nonce can meet.
pub(super) async fn clear(tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for slot in 0..SLOTS {
        sqlx::query(Slot(slot).statements().clear.as_str()).execute(&mut *tx).await?;
        Slot(slot).hold(tx, None).await?;
    }
    sqlx::query("UPDATE log SET closed_below = 0 WHERE id = 1").execute(tx).await?;
    Ok(())
}

impl Slot {
    fn statements(self) -> &'static Statements {
        &STATEMENTS[self.0]
    }

    async fn hold(
        self,
        tx: &mut SqliteConnection,
        epoch: Option<Epoch>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE spent_slots SET epoch = ?2 WHERE slot = ?1")
            .bind(self.0 as i64)
            .bind(epoch.map(|epoch| epoch as i64))
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Empties the tables of a closed epoch, each in a transaction of its own. Ends early if a
    /// newer epoch has taken the slot, and emptied it itself. After a crash it is begun again.
    pub(super) async fn empty(
        self,
        writer: &Writer,
        readers: &SqlitePool,
        closed: Epoch,
    ) -> Result<(), sqlx::Error> {
        // What has long not been used comes from the disk first, where that holds up no post.
        let read = async |part: usize| match self.statements().count_part.get(part) {
            Some(count) => sqlx::query(count.as_str()).fetch_one(readers).await.map(drop),
            None => Ok(()),
        };
        read(0).await?;
        for part in 0..PARTS {
            let clear = self.clear_part(writer, part, closed);
            let (ours, ()) = tokio::try_join!(clear, read(part + 1))?;
            if !ours {
                break;
            }
        }
        Ok(())
    }

    /// Empties one table, if the slot is still that of the closed epoch.
    async fn clear_part(
        self,
        writer: &Writer,
        part: usize,
        closed: Epoch,
    ) -> Result<bool, sqlx::Error> {
        let mut writer = writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        if Slots::load(&mut tx).await?.0.held[self.0] != Some(closed) {
            return Ok(false);
        }
        sqlx::query(self.statements().clear_part[part].as_str()).execute(&mut *tx).await?;
        if part == PARTS - 1 {
            self.hold(&mut tx, None).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Those of `nonces` that are spent, each with the receipt of what it paid for.
    pub(super) async fn receipts(
        self,
        tx: &mut SqliteConnection,
        nonces: &mut [Nonce],
    ) -> Result<HashMap<Nonce, PostReceipt>, sqlx::Error> {
        nonces.sort_unstable();
        let mut spent = HashMap::new();
        for run in nonces.chunks(MAX_ROWS) {
            let mut query = sqlx::query(self.statements().select.as_str());
            for part in by_part(run, |nonce| nonce, |nonce| *nonce) {
                query = query.bind(part);
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
    pub(super) async fn insert(
        self,
        tx: &mut SqliteConnection,
        mut rows: Vec<(Nonce, PostReceipt)>,
        received_at: u64,
    ) -> Result<(), sqlx::Error> {
        rows.sort_unstable_by_key(|row| row.0);
        let bytes = |(nonce, receipt): &(Nonce, PostReceipt)| {
            let mut bytes = [0; ROW_BYTES];
            bytes[..32].copy_from_slice(nonce);
            bytes[32..64].copy_from_slice(receipt.message_id.as_bytes());
            let digits = format!("{:0SEQUENCE_DIGITS$}", receipt.seq);
            bytes[64..].copy_from_slice(digits.as_bytes());
            bytes
        };
        for run in rows.chunks(MAX_ROWS) {
            let mut query = sqlx::query(self.statements().insert.as_str());
            for part in by_part(run, |row| &row.0, bytes) {
                query = query.bind(part);
            }
            query.bind(received_at as i64).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

pub(super) fn array(row: &SqliteRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| sqlx::Error::Decode(format!("{column} is damaged").into()))
}
