//! Parts of messages, until the message is whole.

use sqlx::{Row, SqliteConnection};
use tocyn_protocol::log::checkpoint::Checkpoint;

use super::messages::insert_message;
use super::{CheckedLog, Group, Wallet, WalletError, bytes32};
use crate::group::message::{Author, Id, Message};
use crate::group::parts::Part;

/// Clocks may differ by so many seconds before a message counts as late.
const LATE_SECONDS: u64 = 600;

/// What became of a part.
pub(super) enum Took {
    /// It was here before.
    Again,
    /// Others are still missing.
    Part,
    /// It was the last one.
    Message,
    /// It was the last one, of a message that this version cannot read.
    Newer,
    /// The parts do not make a message of a member.
    Spoiled,
}

impl Wallet {
    /// Tries again what an older version of this program could not read. Gives how many messages are
    /// new.
    pub async fn join_again(&self, group: &Group) -> Result<u64, WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query(
            "SELECT message, author FROM parts WHERE group_id = ?1 AND bytes IS NOT NULL
             GROUP BY message, author HAVING count(*) = max(parts)",
        );
        let mut new = 0;
        for row in &rows.bind(group.id).fetch_all(&mut *tx).await? {
            let (id, author) = (Id(bytes32(row, "message")?), Author(bytes32(row, "author")?));
            let took = join(&mut tx, group, id, author, None).await?;
            new += u64::from(matches!(took, Took::Message));
        }
        tx.commit().await?;
        Ok(new)
    }
}

/// Takes a part in, and the message, if it was the last one.
pub(super) async fn take_part(
    tx: &mut SqliteConnection,
    group: &Group,
    part: &Part,
    seq: u64,
    before: Option<&CheckedLog>,
) -> Result<Took, WalletError> {
    let added = sqlx::query(
        "INSERT OR IGNORE INTO parts (group_id, message, author, part, parts, seq, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(group.id)
    .bind(&part.id.0[..])
    .bind(&part.author.0[..])
    .bind(part.index)
    .bind(part.of)
    .bind(seq as i64)
    .bind(&part.bytes)
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        let first: i64 = sqlx::query_scalar(
            "SELECT seq FROM parts
             WHERE group_id = ?1 AND message = ?2 AND author = ?3 AND part = ?4",
        )
        .bind(group.id)
        .bind(&part.id.0[..])
        .bind(&part.author.0[..])
        .bind(part.index)
        .fetch_one(&mut *tx)
        .await?;
        // Whoever reads the log again meets the same cells again.
        return Ok(if first as u64 == seq { Took::Part } else { Took::Again });
    }
    join(tx, group, part.id, part.author, before).await
}

/// Makes a message of its parts, if all are here.
async fn join(
    tx: &mut SqliteConnection,
    group: &Group,
    id: Id,
    author: Author,
    before: Option<&CheckedLog>,
) -> Result<Took, WalletError> {
    let numbers = sqlx::query(
        "SELECT count(*) AS here, max(parts) AS parts, min(seq) AS first, max(seq) AS last
         FROM parts WHERE group_id = ?1 AND message = ?2 AND author = ?3",
    );
    let numbers = numbers.bind(group.id).bind(&id.0[..]).bind(&author.0[..]);
    let numbers = numbers.fetch_one(&mut *tx).await?;
    let number = |name| Ok::<u64, sqlx::Error>(numbers.try_get::<i64, _>(name)? as u64);
    if number("here")? < number("parts")? {
        return Ok(Took::Part);
    }
    let rows = sqlx::query_scalar(
        "SELECT bytes FROM parts WHERE group_id = ?1 AND message = ?2 AND author = ?3 ORDER BY part",
    );
    let rows = rows.bind(group.id).bind(&id.0[..]).bind(&author.0[..]);
    let parts: Vec<Option<Vec<u8>>> = rows.fetch_all(&mut *tx).await?;
    let bytes = parts.into_iter().flatten().flatten().collect::<Vec<u8>>();
    let whole = |message: &Message| (message.id, message.author) == (id, author);
    let Some(message) = Message::decode(&bytes).ok().filter(whole) else {
        return Ok(if Message::is_newer(&bytes) { Took::Newer } else { Took::Spoiled });
    };
    let (first_seq, seq) = (number("first")?, number("last")?);
    let late = before
        .filter(|before| seq > before.size && message.author != group.author.author())
        .map_or(0, |before| before.synced_at.saturating_sub(message.content.time));
    let late = if late > LATE_SECONDS { late } else { 0 };
    insert_message(tx, group.id, &message, Some(first_seq), late).await?;
    sqlx::query(
        "UPDATE parts SET bytes = NULL WHERE group_id = ?1 AND message = ?2 AND author = ?3",
    )
    .bind(group.id)
    .bind(&id.0[..])
    .bind(&author.0[..])
    .execute(&mut *tx)
    .await?;
    pass_on(tx, group, &message).await?;
    Ok(Took::Message)
}

/// Keeps what a member says that the relay has shown to it.
async fn pass_on(
    tx: &mut SqliteConnection,
    group: &Group,
    message: &Message,
) -> Result<(), WalletError> {
    let note = message.content.checkpoint.as_deref();
    let signed = note.and_then(|note| Checkpoint::open_bare(note, group.log_key()).ok());
    if let Some((_, note)) = signed {
        sqlx::query("INSERT OR IGNORE INTO claims (log_key, note) VALUES (?1, ?2)")
            .bind(group.log_key().to_string())
            .bind(note)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
