//! What was said in groups, and what is missing of it.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::parts::{Took, take_part};
use super::{CheckedLog, Group, Wallet, WalletError, bytes32};
use crate::group::message::{Author, Id, Message};
use crate::group::parts::Part;

/// A cell of the log that is, or says that it is, of one of the groups.
#[derive(Debug)]
pub struct Taken {
    /// Which of the groups, by its place.
    pub group: usize,
    /// The cell's place in the log.
    pub seq: u64,
    /// What is in it; None if it only pretends.
    pub part: Option<Part>,
}

/// A message, as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its id.
    pub id: Id,
    /// Who signed it.
    pub author: Author,
    /// What the author wants to be called.
    pub name: String,
    /// The author's counter.
    pub counter: u64,
    /// Unix seconds, by the author's clock.
    pub time: u64,
    /// What was said.
    pub body: Vec<u8>,
    /// Place in the log; None while it was not found there.
    pub seq: Option<u64>,
    /// Seconds by which it came later than it should.
    pub late: u64,
    /// What it answers to.
    pub parents: Vec<Id>,
}

impl Wallet {
    /// Takes in what was found in the log up to the message `read_to`, in one transaction. Gives how
    /// many messages are new.
    pub async fn take(
        &self,
        groups: &[Group],
        found: &[Taken],
        read_to: u64,
        before: Option<&CheckedLog>,
    ) -> Result<u64, WalletError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut new = 0;
        for Taken { group, seq, part } in found {
            let group = &groups[*group];
            let column = match part {
                None => "spoiled",
                Some(part) => match take_part(&mut tx, group, part, *seq, before).await? {
                    Took::Again => "duplicates",
                    Took::Spoiled => "spoiled",
                    // Its parts are kept for a newer version of this program.
                    Took::Newer => continue,
                    Took::Message => {
                        new += 1;
                        continue;
                    }
                    Took::Part => continue,
                },
            };
            let more = format!("UPDATE groups SET {column} = {column} + 1 WHERE id = ?1");
            sqlx::query(sqlx::AssertSqlSafe(more)).bind(group.id).execute(&mut *tx).await?;
        }
        for group in groups {
            sqlx::query("UPDATE groups SET read_to = max(read_to, ?2) WHERE id = ?1")
                .bind(group.id)
                .bind(read_to as i64)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(new)
    }

    /// All that was said in a group, in no order.
    pub async fn messages(&self, group: &Group) -> Result<Vec<StoredMessage>, WalletError> {
        let rows = sqlx::query("SELECT * FROM messages WHERE group_id = ?1");
        let rows = rows.bind(group.id).fetch_all(&self.pool).await?;
        let mut messages = rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
        messages.sort_by_key(|message| message.id);
        let rows = sqlx::query("SELECT child, parent FROM parents WHERE group_id = ?1");
        for row in &rows.bind(group.id).fetch_all(&self.pool).await? {
            let (child, parent) = (Id(bytes32(row, "child")?), Id(bytes32(row, "parent")?));
            if let Ok(at) = messages.binary_search_by_key(&child, |message| message.id) {
                messages[at].parents.push(parent);
            }
        }
        Ok(messages)
    }
}

/// A member's name for people to read. Names are not vouched for, so some of the key comes with it.
pub(super) fn called(name: &str, author: Author) -> String {
    let key = author.to_string();
    match name {
        "" => key[..8].to_owned(),
        name => format!("{name} ({})", &key[..8]),
    }
}

fn stored(row: &SqliteRow) -> Result<StoredMessage, WalletError> {
    let number = |name| Ok::<u64, sqlx::Error>(row.try_get::<i64, _>(name)? as u64);
    Ok(StoredMessage {
        id: Id(bytes32(row, "id")?),
        author: Author(bytes32(row, "author")?),
        name: row.try_get("name")?,
        counter: number("counter")?,
        time: number("time")?,
        body: row.try_get("body")?,
        seq: row.try_get::<Option<i64>, _>("seq")?.map(|seq| seq as u64),
        late: number("late")?,
        parents: Vec::new(),
    })
}

/// Adds a message. If it is here already, as this member's own, it was found in the log now.
pub(super) async fn insert_message(
    tx: &mut SqliteConnection,
    group_id: i64,
    message: &Message,
    seq: Option<u64>,
    late: u64,
) -> Result<(), WalletError> {
    let content = &message.content;
    sqlx::query(
        "INSERT INTO messages (group_id, id, author, name, counter, time, body, seq, late)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET seq = excluded.seq",
    )
    .bind(group_id)
    .bind(&message.id.0[..])
    .bind(&message.author.0[..])
    .bind(&content.name)
    .bind(content.counter as i64)
    .bind(content.time as i64)
    .bind(&content.body)
    .bind(seq.map(|seq| seq as i64))
    .bind(late as i64)
    .execute(&mut *tx)
    .await?;
    for parent in &content.parents {
        sqlx::query("INSERT OR IGNORE INTO parents (group_id, child, parent) VALUES (?1, ?2, ?3)")
            .bind(group_id)
            .bind(&message.id.0[..])
            .bind(&parent.0[..])
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
