//! What was said in groups, and what is missing of it.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;

use super::{CheckedLog, Group, Wallet, WalletError, bytes32};
use crate::group::message::{Author, Id, Message, SeenKey};
use crate::group::parts::Part;

/// Clocks may differ by so many seconds before a message counts as late.
const LATE_SECONDS: u64 = 600;

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

/// A member, from what it said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// What it wants to be called, and the first digits of its key.
    pub name: String,
    /// Messages that are here.
    pub messages: u64,
    /// Numbers of its messages that are not here, though later ones are.
    pub missing: Vec<u64>,
}

/// A message that others have seen and that is not here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// Its id, in hexadecimal.
    pub message: String,
    /// Who answered to it.
    pub seen_by: Vec<String>,
}

/// A message of which cells are missing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Incomplete {
    /// Its id, in hexadecimal.
    pub message: String,
    /// Cells that are here.
    pub parts: u64,
    /// Cells that it has.
    pub of: u64,
}

/// Whether anything is missing in a group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupHealth {
    /// The group's name.
    pub group: String,
    /// Who has said something.
    pub members: Vec<Member>,
    /// Messages that were seen by others.
    pub missing: Vec<Missing>,
    /// Messages that are not whole.
    pub incomplete: Vec<Incomplete>,
    /// Messages that came late: the relay, or the way to it, has held them back.
    pub late: u64,
    /// Cells that came again; they change nothing.
    pub duplicates: u64,
    /// Cells that only pretend to be of the group; they change nothing.
    pub spoiled: u64,
    /// Messages of the log that were no longer kept when this group was read.
    pub skipped: u64,
    /// Cells of this member that have no receipt yet.
    pub waiting: u64,
    /// Messages of this member that the relay has acknowledged, and that are not in its log.
    pub unpublished: u64,
    /// Whether something is missing that cannot be among what was no longer kept, nor was accepted:
    /// the relay left it out, or a member names what never was.
    pub gap: bool,
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

    /// Token keys of the relay that members of groups were shown, and by whom they were passed on.
    pub async fn seen_keys(
        &self,
        log_key: &VerifierKey,
    ) -> Result<Vec<(SeenKey, String)>, WalletError> {
        let rows = sqlx::query(
            "SELECT epoch, not_before, key_id, seen_by FROM seen_keys
             JOIN groups ON groups.id = group_id WHERE log_key = ?1",
        );
        let rows = rows.bind(log_key.to_string()).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let seen = SeenKey {
                    epoch: row.try_get::<i64, _>("epoch")? as u64,
                    not_before: row.try_get::<i64, _>("not_before")? as u64,
                    key_id: bytes32(row, "key_id")?,
                };
                Ok((seen, row.try_get("seen_by")?))
            })
            .collect()
    }

    /// What is missing in a group.
    pub async fn health(&self, group: &Group) -> Result<GroupHealth, WalletError> {
        let mut members: Vec<(Author, Member)> = Vec::new();
        let mut gap = false;
        let mut last_seq = 0;
        let rows = sqlx::query(
            "SELECT author, name, counter, coalesce(seq, 9223372036854775807) AS place
             FROM messages WHERE group_id = ?1 ORDER BY author, counter",
        );
        for row in &rows.bind(group.id).fetch_all(&self.pool).await? {
            let author = Author(bytes32(row, "author")?);
            let counter = row.try_get::<i64, _>("counter")? as u64;
            if members.last().is_none_or(|(last, _)| *last != author) {
                let member = Member { name: String::new(), messages: 0, missing: Vec::new() };
                members.push((author, member));
                last_seq = 0;
            }
            let (_, member) = members.last_mut().expect("there is one now");
            member.name = called(&row.try_get::<String, _>("name")?, author);
            let due = member.messages + member.missing.len() as u64 + 1;
            // A counter that jumps by millions is a member's fault, and not worth a list.
            member.missing.extend((due..counter).take(1000));
            // What is missing is after the author's last message.
            gap |= due < counter && last_seq >= group.excused_to;
            last_seq = row.try_get::<i64, _>("place")? as u64;
            member.messages += u64::from(counter >= due);
        }
        let rows = sqlx::query(
            "SELECT parent, author, name, ?2 = 0 OR EXISTS (
                     SELECT 1 FROM messages AS earlier
                     WHERE earlier.group_id = ?1 AND earlier.author = messages.author
                         AND earlier.counter < messages.counter AND earlier.seq > ?2) AS gap
             FROM parents JOIN messages
                 ON messages.group_id = parents.group_id AND messages.id = child
             WHERE parents.group_id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM messages WHERE group_id = ?1 AND id = parent)
             GROUP BY parent, author ORDER BY parent",
        );
        let mut missing: Vec<Missing> = Vec::new();
        let rows = rows.bind(group.id).bind(group.excused_to as i64);
        for row in &rows.fetch_all(&self.pool).await? {
            let message = Id(bytes32(row, "parent")?).to_string();
            gap |= row.try_get::<bool, _>("gap")?;
            let by = called(&row.try_get::<String, _>("name")?, Author(bytes32(row, "author")?));
            match missing.last_mut().filter(|last| last.message == message) {
                Some(last) => last.seen_by.push(by),
                None => missing.push(Missing { message, seen_by: vec![by] }),
            }
        }
        let rows = sqlx::query(
            "SELECT message, count(*) AS here, max(parts) AS parts FROM parts
             WHERE group_id = ?1 AND bytes IS NOT NULL GROUP BY message, author",
        );
        let incomplete = rows.bind(group.id).fetch_all(&self.pool).await?;
        let incomplete = incomplete.iter().map(|row| {
            Ok(Incomplete {
                message: Id(bytes32(row, "message")?).to_string(),
                parts: row.try_get::<i64, _>("here")? as u64,
                of: row.try_get::<i64, _>("parts")? as u64,
            })
        });
        let numbers = sqlx::query(
            "SELECT duplicates, spoiled, skipped,
                 (SELECT count(*) FROM messages WHERE group_id = ?1 AND late > 0) AS late,
                 (SELECT count(*) FROM outbox WHERE group_id = ?1) AS waiting,
                 (SELECT count(*) FROM messages WHERE group_id = ?1 AND author = ?2 AND seq IS NULL
                      AND NOT EXISTS (SELECT 1 FROM outbox WHERE group_id = ?1)
                      AND NOT EXISTS (SELECT 1 FROM receipts WHERE log_key = groups.log_key)
                 ) AS unpublished
             FROM groups WHERE id = ?1",
        );
        let own = group.author.author();
        let numbers = numbers.bind(group.id).bind(&own.0[..]).fetch_one(&self.pool).await?;
        let number = |name| Ok::<u64, sqlx::Error>(numbers.try_get::<i64, _>(name)? as u64);
        Ok(GroupHealth {
            group: group.invite.name.clone(),
            members: members.into_iter().map(|(_, member)| member).collect(),
            missing,
            incomplete: incomplete.collect::<Result<_, WalletError>>()?,
            late: number("late")?,
            duplicates: number("duplicates")?,
            spoiled: number("spoiled")?,
            skipped: number("skipped")?,
            waiting: number("waiting")?,
            unpublished: number("unpublished")?,
            gap,
        })
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

/// What became of a part.
enum Took {
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

async fn take_part(
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

/// Keeps what a member says that the relay has shown to it.
async fn pass_on(
    tx: &mut SqliteConnection,
    group: &Group,
    message: &Message,
) -> Result<(), WalletError> {
    let seen_by = called(&message.content.name, message.author);
    let note = message.content.checkpoint.as_deref();
    let signed = note.and_then(|note| Checkpoint::open_bare(note, group.log_key()).ok());
    if let Some((_, note)) = signed {
        sqlx::query("INSERT OR IGNORE INTO claims (log_key, note) VALUES (?1, ?2)")
            .bind(group.log_key().to_string())
            .bind(note)
            .execute(&mut *tx)
            .await?;
    }
    for key in &message.content.token_keys {
        sqlx::query(
            "INSERT OR IGNORE INTO seen_keys (group_id, epoch, not_before, key_id, seen_by)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(group.id)
        .bind(key.epoch.min(i64::MAX as u64) as i64)
        .bind(key.not_before.min(i64::MAX as u64) as i64)
        .bind(&key.key_id[..])
        .bind(&seen_by)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
